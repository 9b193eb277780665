#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the beds of the virtual machine that are named, all of them when none is:
# `make test-vm` without its building of the product.
set -euo pipefail
BED="$*" exec "$(dirname "$0")/../suite.sh" vm
