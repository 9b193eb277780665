// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

// memberships are the cgroups of a process as the caller sees them, by the
// controllers of the hierarchy; cgroup2's are "".
func memberships(pid int) (map[string]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			all[f[1]] = f[2]
		}
	}
	return all, nil
}

// Processes are all that descend from the first process of the namespaces, as
// the outside sees them. Within a PID namespace nothing else can be.
func (i *Inner) Processes() []harness.Process {
	all := harness.Processes()
	known := map[int]bool{i.pid: true}
	for grew := true; grew; {
		grew = false
		for _, p := range all {
			if !known[p.PID] && known[p.Parent] {
				known[p.PID], grew = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(p harness.Process) bool { return !known[p.PID] })
}

// CheckContained fails the test for each process that is outside base, the
// cgroup that the inner quoind was given. Every hierarchy counts in which its
// first process is below base.
func (i *Inner) CheckContained(t testing.TB, base string) {
	t.Helper()
	first, err := memberships(i.pid)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, p := range i.Processes() {
		have, err := memberships(p.PID)
		if err != nil {
			continue // it has ended
		}
		for hierarchy, path := range have {
			if !below(first[hierarchy], base) {
				continue
			}
			seen++
			if !below(path, base) && !ended(p.PID) {
				t.Errorf("%s is in %s of %q, outside %s", p, path, hierarchy, base)
			}
		}
	}
	if seen == 0 {
		t.Errorf("the first process is not below %s: %v", base, first)
	}
}

// ended says that a process has exited: cgroup v1 shows its zombie in the root.
func ended(pid int) bool {
	p, ok := harness.FindProcess(pid)
	return !ok || p.State == "Z"
}

func below(path, base string) bool { return path == base || strings.HasPrefix(path, base+"/") }

// Find returns the only process inside with this command line, as soon as it has
// executed it.
func (i *Inner) Find(t testing.TB, args ...string) harness.Process {
	t.Helper()
	var found []harness.Process
	harness.Eventually(t, fmt.Sprintf("one process inside is %q", args), func() string {
		all := i.Processes()
		found = slices.DeleteFunc(slices.Clone(all), func(p harness.Process) bool { return !slices.Equal(p.Args, args) })
		if len(found) != 1 {
			return fmt.Sprintf("%d are, of\n%s", len(found), harness.Describe(all))
		}
		return ""
	})
	return found[0]
}

// CheckPlace compares the cgroup of a process with the path that it should have
// inside: there, and from outside, where the path is below base.
func (i *Inner) CheckPlace(t testing.TB, base string, p harness.Process, path string) {
	t.Helper()
	first, err := memberships(i.pid)
	if err != nil {
		t.Fatal(err)
	}
	have, err := memberships(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	inside := i.Shell(t, fmt.Sprintf("cat /proc/%d/cgroup", i.numberInside(t, p))) + "\n"
	checked := 0
	for hierarchy, got := range have {
		want := path
		switch {
		case !below(first[hierarchy], base):
			continue
		case hierarchy == "" && !unified(first, base) && got == base:
			want = "" // its cgroup2, beside those of v1, may not be visible inside
		}
		checked++
		if got != base+want {
			t.Errorf("%s: seen from outside it is in %s of %q, want %s", p, got, hierarchy, base+want)
		}
		if line := ":" + hierarchy + ":" + cmp.Or(want, "/") + "\n"; !strings.Contains(inside, line) {
			t.Errorf("%s: seen from inside it is not in %s of %q:\n%s", p, want, hierarchy, inside)
		}
	}
	if checked == 0 {
		t.Errorf("no hierarchy has %s: %v", base, first)
	}
}

// unified says whether base is a cgroup of cgroup2 only.
func unified(first map[string]string, base string) bool {
	for hierarchy, path := range first {
		if hierarchy != "" && below(path, base) {
			return false
		}
	}
	return true
}

// numberInside is the process's number in the PID namespace of the inner quoind.
func (i *Inner) numberInside(t testing.TB, p harness.Process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			var outer, inner int
			if _, err := fmt.Sscan(rest, &outer, &inner); err != nil {
				t.Fatalf("%s: %q: %v", p, line, err)
			}
			return inner
		}
	}
	t.Fatalf("no NSpid for %s", p)
	return 0
}
