#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The checks that need no machine: format, vet, staticcheck, shell syntax, and
# the test of who may import whom. Runs all of them, then fails if one did.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${GO:=go}" "${TOOLS_DIR:=$PWD/_cache/tools}"
status=0

check() {
	local name=$1
	shift
	if "$@"; then
		printf 'lint: %s ok\n' "$name"
	else
		printf 'lint: %s FAILED\n' "$name"
		status=1
	fi
}

formatted() {
	local files
	files=$(git ls-files -z -- '*.go' | xargs -0 -r gofmt -l)
	[[ -z $files ]] || {
		printf 'not formatted by gofmt:\n%s\n' "$files"
		return 1
	}
}

shells() {
	local file failed=0
	while read -r file; do
		bash -n "$file" || failed=1
	done < <(git ls-files -- '*.sh' .ci/run)
	return "$failed"
}

check gofmt formatted
check shell shells
check vet "$GO" vet ./...
# The shim is built with other tags than the rest.
check 'vet (shim)' "$GO" vet -tags no_grpc ./shim/... ./cmd/containerd-shim-quoin-v1
# Tests that only virtual machines and `make test-kubelet` build.
check 'vet (vm, kubelet)' "$GO" vet -tags vm,kubelet ./integration/...
check staticcheck "$TOOLS_DIR/staticcheck" ./...
check 'staticcheck (vm, kubelet)' "$TOOLS_DIR/staticcheck" -tags vm,kubelet ./integration/...
check imports "$GO" test ./integration/arch
exit "$status"
