// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestPlanFor(t *testing.T) {
	if _, err := (settings{}).planFor("v3"); err == nil || !strings.Contains(err.Error(), "bare, hybrid, v2") {
		t.Errorf("no such bed: %v", err)
	}
	for name := range beds {
		plan, err := settings{}.planFor(name)
		if err != nil {
			t.Fatal(err)
		}
		if plan.Bed != name || len(plan.Runs) != len(beds[name].runs) {
			t.Errorf("%+v", plan)
		}
		for _, r := range plan.Runs {
			if !strings.HasPrefix(r.Package, "vm/"+name+"/") || !strings.HasSuffix(r.Binary, ".test") || r.Seconds <= 0 {
				t.Errorf("%+v", r)
			}
		}
	}
	plan, err := settings{filter: "TestX"}.planFor("hybrid")
	if err != nil {
		t.Fatal(err)
	}
	if args := plan.Runs[0].Args; !slices.Contains(args, "-test.run=TestX") || slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, "TestDecision") }) {
		t.Errorf("a filter does not replace the bed's choice: %q", args)
	}
}
