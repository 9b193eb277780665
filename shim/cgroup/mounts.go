// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mount is one visible mount of a cgroup file system.
type mount struct {
	// root is the directory of the hierarchy that is mounted, relative to the
	// root of the reader's cgroup namespace; "/.." and the like lie above it.
	root  string
	point string
	v2    bool
	// controllers are the v1 controllers, or a single "name=…".
	controllers []string
}

// dir returns where the cgroup path (as /proc/<pid>/cgroup shows it) is found
// below this mount, and whether the mount shows it at all.
func (m mount) dir(path string) (string, bool) {
	if m.root == "/" {
		// A path that begins with /.. lies outside our cgroup namespace.
		if path == "/.." || strings.HasPrefix(path, "/../") {
			return "", false
		}
		return filepath.Join(m.point, path), true
	}
	rest, ok := strings.CutPrefix(path, m.root)
	if !ok || (rest != "" && rest[0] != '/') {
		return "", false
	}
	return filepath.Join(m.point, rest), true
}

// readMounts returns the visible cgroup mounts of this process and the mode
// that they make up. root is prepended to every path ("" is the real host).
func readMounts(root string) ([]mount, Mode, error) {
	name := root + "/proc/self/mountinfo"
	f, err := os.Open(name)
	if err != nil {
		return nil, Unavailable, fmt.Errorf("find the cgroup mounts: %w", err)
	}
	defer f.Close()
	mounts, err := parseMounts(f)
	if err != nil {
		return nil, Unavailable, fmt.Errorf("find the cgroup mounts: read %s: %w", name, err)
	}
	mode := modeOf(mounts)
	if mode == Unified {
		// v1 trees elsewhere do not count: the runtimes ignore them too.
		mounts = slices.DeleteFunc(mounts, func(m mount) bool { return !m.v2 })
	}
	for i := range mounts {
		mounts[i].point = root + mounts[i].point
	}
	return mounts, mode, nil
}

func modeOf(mounts []mount) Mode {
	mode := Unavailable
	for _, m := range mounts {
		switch {
		case m.v2 && m.point == mountPoint:
			return Unified
		case m.v2 && mode == Legacy, !m.v2 && mode == Hybrid:
			mode = Hybrid
		case m.v2 && mode == Unavailable:
			mode = Hybrid // settled below, if no v1 tree follows
		case !m.v2 && mode == Unavailable:
			mode = Legacy
		}
	}
	if mode == Hybrid && !slices.ContainsFunc(mounts, func(m mount) bool { return !m.v2 }) {
		return Unified // cgroup2 only, at an unusual place
	}
	return mode
}

// parseMounts reads the format of proc_pid_mountinfo(5). A mount over the same
// directory, or over a directory above, hides those that came before.
func parseMounts(r io.Reader) ([]mount, error) {
	var out []mount
	s := bufio.NewReaderSize(r, 4096)
	for {
		line, err := s.ReadString('\n')
		if m, point, ok := parseMount(strings.TrimSuffix(line, "\n")); point != "" {
			out = slices.DeleteFunc(out, func(old mount) bool {
				return old.point == point || strings.HasPrefix(old.point, strings.TrimSuffix(point, "/")+"/")
			})
			if ok {
				out = append(out, m)
			}
		}
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// parseMount returns the mount point of any line, and the mount when it is a
// cgroup file system.
func parseMount(line string) (m mount, point string, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	if !found {
		return mount{}, "", false
	}
	fields := strings.Fields(before)
	tail := strings.Fields(after)
	if len(fields) < 6 || len(tail) < 1 {
		return mount{}, "", false
	}
	m = mount{root: unescape(fields[3]), point: unescape(fields[4])}
	switch tail[0] {
	case "cgroup2":
		m.v2 = true
		return m, m.point, true
	case "cgroup":
		if len(tail) < 3 {
			return mount{}, m.point, false
		}
		for opt := range strings.SplitSeq(tail[2], ",") {
			// Controllers stand among the superblock's options, which also
			// are these; no controller has such a name.
			switch {
			case opt == "rw", opt == "ro", opt == "xattr", opt == "clone_children", opt == "noprefix",
				opt == "cpuset_v2_mode", opt == "none", strings.HasPrefix(opt, "release_agent="):
			default:
				m.controllers = append(m.controllers, opt)
			}
		}
		return m, m.point, len(m.controllers) > 0
	}
	return mount{}, m.point, false
}

// unescape undoes the \ooo of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
