#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Fuzzes every target of the tree for FUZZTIME each. A target is found by its
# name, so a new one needs no entry here. An input that fails is kept in the
# package's testdata/fuzz, where plain `go test` runs it again.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${GO:=go}" "${FUZZTIME:=5s}"
status=0 targets=0

while IFS=: read -r file _ line; do
	name=${line#func }
	name=${name%%(*}
	targets=$((targets + 1))
	printf '== fuzz %s in %s for %s\n' "$name" "$(dirname "$file")" "$FUZZTIME"
	"$GO" test -run '^$' -fuzz "^${name}\$" -fuzztime "$FUZZTIME" "./$(dirname "$file")" || status=1
done < <(git grep -nE '^func Fuzz[A-Z0-9_][A-Za-z0-9_]*\(' -- '*_test.go')

printf 'fuzz: %d targets, %s\n' "$targets" "$([[ $status == 0 ]] && echo 'no failure' || echo 'FAILED')"
exit "$status"
