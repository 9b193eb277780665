// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Version is what a runtime prints for --version.
type Version struct {
	// Name is the first word: runc, crun, youki, ….
	Name string
	// Release is the runtime's own version.
	Release string
	// Commit it was built from; may be empty.
	Commit string
	// Spec is the version of the runtime-spec it claims; may be empty.
	Spec string
}

func (v Version) String() string { return v.Name + " " + v.Release }

// Version asks the runtime for its version.
func (r *Runtime) Version(ctx context.Context) (Version, error) {
	res, err := r.run(ctx, call{op: "--version", deadline: r.cfg.Deadlines.Control, args: []string{"--version"}, capture: maxOutput})
	if err != nil {
		return Version{}, err
	}
	v, ok := parseVersion(res.stdout)
	if !ok {
		return Version{}, r.rubbish("--version", res.stdout, errors.New("no line with a version"))
	}
	return v, nil
}

// parseVersion reads "runc version 1.1.5", then lines of "key: value".
func parseVersion(data []byte) (Version, bool) {
	var v Version
	for line := range bytes.Lines(data) {
		text := strings.TrimSpace(string(line))
		if name, release, ok := strings.Cut(text, " version "); ok && v.Name == "" {
			v.Name, v.Release = name, strings.TrimPrefix(strings.TrimSpace(release), "v")
			continue
		}
		switch key, value, _ := strings.Cut(text, ":"); key {
		case "commit":
			v.Commit = strings.TrimSpace(value)
		case "spec":
			v.Spec = strings.TrimSpace(value)
		}
	}
	return v, v.Name != "" && !strings.ContainsAny(v.Name, " \t") && v.Release != ""
}

// runcFloors are the first releases of each series of runc without a known escape
// (CVE-2025-31133, -52565, -52881 and CVE-2026-41579). Series before the first are
// no longer fixed upstream; those after the last began fixed.
var runcFloors = []string{"1.3.6", "1.4.3", "1.5.0"}

// crunFloor is the first release of crun in which no image's own /dev leads its
// setup out of the root (CVE-2026-88264, CVE-2026-88265; crun's release notes). Specs
// that mount a fresh /dev, as containerd's do, are not exposed to those; to others,
// before 1.20, some are (CVE-2025-24965).
const crunFloor = "1.30"

// SecurityWarning is a sentence for the operator when the runtime has known ways
// out of the container, else empty. A distribution may have fixed an old release,
// which its version does not tell, so this is a warning and no reason to refuse.
func (v Version) SecurityWarning() string {
	have, ok := parseNumbers(v.Release)
	if floor, _ := parseNumbers(crunFloor); v.Name == "crun" && ok && have.less(floor) {
		return outdated(v, crunFloor)
	}
	if v.Name != "runc" || !ok {
		return ""
	}
	for i, floor := range runcFloors {
		want, _ := parseNumbers(floor)
		last := i == len(runcFloors)-1
		if have.minor() > want.minor() && !last {
			continue
		}
		// A release candidate of the floor itself may be of before the fix.
		if have.less(want) || (have == want && strings.Contains(v.Release, "-rc")) {
			return outdated(v, floor)
		}
		return ""
	}
	return ""
}

func outdated(v Version, floor string) string {
	return fmt.Sprintf("%s is older than %s and has known container escapes, unless your distribution has fixed it: update it", v, floor)
}

// numbers are major, minor and patch.
type numbers [3]int

func (n numbers) less(o numbers) bool {
	for i := range n {
		if n[i] != o[i] {
			return n[i] < o[i]
		}
	}
	return false
}

// minor is the series a version belongs to, comparable across majors.
func (n numbers) minor() int { return n[0]<<16 + n[1] }

// parseNumbers reads "1.2.3", "1.2" and what follows with "-", "+", "~" or a
// space is left out.
func parseNumbers(s string) (numbers, bool) {
	var n numbers
	if i := strings.IndexAny(s, "-+~ "); i >= 0 {
		s = s[:i]
	}
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 4 {
		return n, false
	}
	for i, p := range parts[:min(len(parts), 3)] {
		v, err := strconv.ParseUint(p, 10, 15)
		if err != nil {
			return n, false
		}
		n[i] = int(v)
	}
	return n, true
}
