#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the suites that are named (unit, integration, vm), one after the other,
# each to its end, and closes with one line of totals. The Makefile's test
# targets call it with the environment that it exports.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${GO:=go}" "${TOOLS_DIR:=$PWD/_cache/tools}" "${OUT_DIR:=$PWD/_out}" "${RUN:=}"
: "${PACKAGES:=./cmd/... ./config/... ./plugins/... ./shim/...}" "${INTEGRATION_PACKAGES:=./integration/...}"
: "${BED:=v2 troubles hybrid bare}" "${VM_TAGS:=vm}"

# An optional filter on test names; an array, so that it may be absent.
filter=()
[[ -z $RUN ]] || filter=(-run "$RUN")

# Counts go to a file: gotestsum's own summary is about one suite only.
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
status=0

failures() { awk '{ n += $2 + $4 } END { print n + 0 }' "$counts"; }

# suite NAME FORMAT GOTESTSUM-ARGUMENTS...
suite() {
	local name=$1 format=$2 start=$SECONDS before
	shift 2
	printf '\n== %s tests\n' "$name"
	mkdir -p "$OUT_DIR"
	before=$(failures)
	if ! COUNTS=$counts GOVERSION=$("$GO" env GOVERSION) "$TOOLS_DIR/gotestsum" --format "$format" --no-color \
		--format-hide-empty-pkg --jsonfile "$OUT_DIR/$name-tests.json" --junitfile "$OUT_DIR/$name-tests.xml" \
		--post-run-command 'bash -c "echo $TESTS_TOTAL $TESTS_FAILED $TESTS_SKIPPED $TESTS_ERRORS >>$COUNTS"' \
		"$@"; then
		status=1
		# One that failed without a test that did is a failure itself.
		(($(failures) > before)) || echo 0 0 0 1 >>"$counts"
	fi
	printf '== %s tests: %ds\n' "$name" $((SECONDS - start))
}

for want in "$@"; do
	case $want in
	unit) suite unit pkgname -- -race -shuffle=on -timeout 10m "${filter[@]}" $PACKAGES ;;
	# One package at a time: they share the machine's runtimes and its cores.
	integration) suite integration pkgname -- -count=1 -p 1 -timeout 35m "${filter[@]}" $INTEGRATION_PACKAGES ;;
	vm)
		mkdir -p "$TOOLS_DIR"
		"$GO" build -trimpath -buildvcs=false -o "$TOOLS_DIR/vm" ./integration/vm
		# Descriptor 3 goes past gotestsum, which counts what is on standard error.
		suite vm testname --raw-command -- bash -c 'exec "$@" 2>&3' vm \
			"$TOOLS_DIR/vm" -beds "$BED" -tags "$VM_TAGS" -run "$RUN" 3>&2
		;;
	*)
		echo "suite.sh: unknown suite '$want': use unit, integration or vm" >&2
		exit 2
		;;
	esac
done

# What failed may be a package or a machine, which is none of the tests.
awk '{ total += $1; failed += $2; skipped += $3; errors += $4 }
	END {
		if (errors) printf "\n%d packages or machines did not start or ended early\n", errors
		if (total == 0) print "\nno test ran"
		passed = total - failed - skipped
		printf "\n%d passed, %d failed, %d skipped\n", passed < 0 ? 0 : passed, failed + errors, skipped
		exit total == 0
	}' "$counts" || status=1
exit "$status"
