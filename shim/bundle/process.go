// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/json"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// process is the part of an OCI process that the shim checks. The ids are kept
// as text so that one that is out of range gets an error that says so.
type process struct {
	Terminal bool   `json:"terminal"`
	Cwd      string `json:"cwd"`
	User     struct {
		UID            json.RawMessage   `json:"uid"`
		GID            json.RawMessage   `json:"gid"`
		AdditionalGIDs []json.RawMessage `json:"additionalGids"`
	} `json:"user"`
}

// CheckProcess examines an OCI process (that of a config.json or of an exec)
// for what the shim must not pass on to any runtime, however old:
//
//   - a uid or gid, additional ones included, outside 0..2^31-1, which some layers
//     wrap around to root (CVE-2024-40635, CVE-2026-46680);
//   - a working directory that is relative, or in /proc/<pid>/fd, cwd or root, or in
//     /dev/fd, by which a process enters the host through a descriptor that a
//     runtime forgot to close (CVE-2024-21626).
//
// A link in the image that leads there cannot be seen from here: against that, the
// shim's descriptors are closed on exec, and runtimes since 2024 look where they are
// (see oci.Version's SecurityWarning).
//
// Errors: errdefs.ErrInvalidArgument.
func CheckProcess(data []byte) error {
	var p process
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("malformed OCI process: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	_, _, err := p.check()
	return err
}

func (p *process) check() (uid, gid uint32, err error) {
	if uid, err = userID("process.user.uid", p.User.UID); err != nil {
		return 0, 0, err
	}
	if gid, err = userID("process.user.gid", p.User.GID); err != nil {
		return 0, 0, err
	}
	for i, id := range p.User.AdditionalGIDs {
		if _, err := userID(fmt.Sprintf("process.user.additionalGids[%d]", i), id); err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, checkCwd(p.Cwd)
}

func userID(name string, raw json.RawMessage) (uint32, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(raw), 10, 32)
	if err != nil || n > math.MaxInt32 {
		return 0, fmt.Errorf("%s %.40s is not an id in 0..%d: %w", name, raw, math.MaxInt32, errdefs.ErrInvalidArgument)
	}
	return uint32(n), nil
}

// checkCwd walks cwd as the kernel would if no component were a link, and looks
// at every directory on the way: /proc/self/fd/7/../.. cleans to nothing
// suspicious, but "fd/7" is a link and ".." then leads elsewhere. An empty one is
// left to the runtime.
func checkCwd(cwd string) error {
	if cwd != "" && cwd[0] != '/' {
		return fmt.Errorf("process.cwd %q is not an absolute path: %w", cwd, errdefs.ErrInvalidArgument)
	}
	at := "/"
	for part := range strings.SplitSeq(cwd, "/") {
		at = path.Join(at, part)
		if leadsOut(at) {
			return fmt.Errorf("process.cwd %q leads through a process's descriptors, working directory or root: %w",
				cwd, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// leadsOut matches /proc/<pid>/fd, cwd and root, the same of a thread, and what
// /dev has links to them for.
func leadsOut(dir string) bool {
	switch dir {
	case "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr":
		return true
	}
	rest, ok := strings.CutPrefix(dir, "/proc/")
	if !ok {
		return false
	}
	pid, rest, _ := strings.Cut(rest, "/")
	if _, err := strconv.ParseUint(pid, 10, 32); err != nil && pid != "self" && pid != "thread-self" {
		return false
	}
	if thread, ok := strings.CutPrefix(rest, "task/"); ok {
		_, rest, _ = strings.Cut(thread, "/")
	}
	return rest == "fd" || rest == "cwd" || rest == "root"
}
