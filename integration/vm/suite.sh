#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs beds of the virtual machine (v2, hybrid, bare), one after the other, each
# to its end, and closes with one line of totals. `make test-vm` calls it with
# the environment that the Makefile exports.
set -euo pipefail
cd "$(dirname "$0")/../.."

: "${GO:=go}" "${TOOLS_DIR:=$PWD/_cache/tools}" "${OUT_DIR:=$PWD/_out}" "${RUN:=}"

mkdir -p "$OUT_DIR" "$TOOLS_DIR"
"$GO" build -trimpath -buildvcs=false -o "$TOOLS_DIR/vm" ./integration/vm

counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
status=0

for bed in "$@"; do
	printf '\n== tests in the virtual machine: %s\n' "$bed"
	start=$SECONDS
	# Descriptor 3 goes past gotestsum, which counts what is on standard error.
	COUNTS=$counts GOVERSION=$("$GO" env GOVERSION) "$TOOLS_DIR/gotestsum" --format testname --no-color \
		--jsonfile "$OUT_DIR/vm-$bed-tests.json" --junitfile "$OUT_DIR/vm-$bed-tests.xml" \
		--post-run-command 'bash -c "echo $TESTS_TOTAL $TESTS_FAILED $TESTS_SKIPPED $TESTS_ERRORS >>$COUNTS"' \
		--raw-command -- bash -c 'exec "$@" 2>&3' vm "$TOOLS_DIR/vm" -bed "$bed" -run "$RUN" 3>&2 || status=1
	printf '== %s: %ds\n' "$bed" $((SECONDS - start))
done

awk '{ total += $1; failed += $2; skipped += $3; errors += $4 }
	END {
		if (total == 0) { print "\nno test ran"; exit 1 }
		printf "\n%d passed, %d failed, %d skipped\n", total - failed - skipped, failed + errors, skipped
	}' "$counts" || status=1
exit "$status"
