// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestPlanFor(t *testing.T) {
	if _, err := (settings{}).planFor("v3"); err == nil || !strings.Contains(err.Error(), "bare, hybrid, troubles, v2") {
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

// testsOf are the names of a package's tests, whatever tags build them.
func testsOf(t *testing.T, pkg string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", pkg, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the tests of %s: %q, %v", pkg, files, err)
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllSubmatch(text, -1) {
			names = append(names, string(found[1]))
		}
	}
	return names
}

// TestPatterns: each name that a bed chooses or leaves out is one of a test, so
// that none is lost by being renamed.
func TestPatterns(t *testing.T) {
	for name, b := range beds {
		for _, r := range b.runs {
			tests := testsOf(t, r.pkg)
			for _, list := range []string{r.only, r.skip} {
				inner := strings.TrimSuffix(strings.TrimPrefix(list, "^("), ")$")
				if list != "" && "^("+inner+")$" != list {
					t.Errorf("bed %s: %q is no list of whole names", name, list)
				}
				for _, alternative := range strings.Split(inner, "|") {
					pattern := regexp.MustCompile("^" + alternative + "$")
					if alternative != "" && !slices.ContainsFunc(tests, pattern.MatchString) {
						t.Errorf("bed %s: no test of %s is called %s", name, r.pkg, alternative)
					}
				}
			}
		}
	}
}
