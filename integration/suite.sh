#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the suites that are named (unit, integration), one after the other, each
# to its end, and closes with one line of totals. `make test` calls it with the
# environment that the Makefile exports.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${GO:=go}" "${TOOLS_DIR:=$PWD/_cache/tools}" "${OUT_DIR:=$PWD/_out}" "${RUN:=}"
: "${PACKAGES:=./cmd/... ./config/... ./plugins/... ./shim/...}" "${INTEGRATION_PACKAGES:=./integration/...}"

# An optional filter on test names; an array, so that it may be absent.
filter=()
[[ -z $RUN ]] || filter=(-run "$RUN")

# Counts go to a file: gotestsum's own summary is about one suite only.
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
status=0

# suite NAME PACKAGES FLAGS...
suite() {
	local name=$1 packages=$2
	shift 2
	printf '\n== %s tests\n' "$name"
	mkdir -p "$OUT_DIR"
	# shellcheck disable=SC2086 # the packages are a list
	COUNTS=$counts GOVERSION=$("$GO" env GOVERSION) "$TOOLS_DIR/gotestsum" --format pkgname --no-color \
		--format-hide-empty-pkg --jsonfile "$OUT_DIR/$name-tests.json" --junitfile "$OUT_DIR/$name-tests.xml" \
		--post-run-command 'bash -c "echo $TESTS_TOTAL $TESTS_FAILED $TESTS_SKIPPED $TESTS_ERRORS >>$COUNTS"' \
		-- "$@" "${filter[@]}" $packages || status=1
}

for want in "$@"; do
	case $want in
	unit) suite unit "$PACKAGES" -race -shuffle=on -timeout 10m ;;
	# One package at a time: they share the machine's runtimes and its cores.
	integration) suite integration "$INTEGRATION_PACKAGES" -count=1 -p 1 -timeout 35m ;;
	*)
		echo "suite.sh: unknown suite '$want': use unit or integration" >&2
		exit 2
		;;
	esac
done

awk '{ total += $1; failed += $2; skipped += $3; errors += $4 }
	END {
		if (errors) printf "\n%d packages did not build or ended early\n", errors
		if (total == 0) { print "\nno test ran"; exit 1 }
		printf "\n%d passed, %d failed, %d skipped\n", total - failed - skipped, failed + errors, skipped
	}' "$counts" || status=1
exit "$status"
