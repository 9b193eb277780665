// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// scenario is one change to a healthy node and what must be found then.
type scenario struct {
	id    string
	files map[string]string
	// alone leaves the daemon out.
	alone bool
	// change is made after the files, before the daemon starts.
	change func(t *testing.T, f fixture)
	want   Status
	// message and fix are parts of the finding's.
	message, fix string
}

func check1(t *testing.T, name string, s scenario) {
	t.Run(s.id+"/"+name, func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, s.files)
		if s.change != nil {
			s.change(t, f)
		}
		if !s.alone {
			f.serve(t)
		}
		r := examine(t.Context(), f.host)
		got := r.find(t, s.id)
		if got.Status != s.want || !strings.Contains(got.Message, s.message) || !strings.Contains(got.Fix, s.fix) {
			t.Errorf("got %+v\nwant %s, message with %q, fix with %q", got, s.want, s.message, s.fix)
		}
		sane(t, f.root, r)
	})
}

// sane holds of every finding: what is not in order has a fix and what is has
// none, and no message shows where the test has its files.
func sane(t *testing.T, root string, r *Report) {
	t.Helper()
	ids := map[string]bool{}
	for _, f := range r.Findings {
		if (f.Status == OK) != (f.Fix == "") || f.Message == "" || f.Title == "" || f.Group == "" || ids[f.ID] {
			t.Errorf("malformed finding: %+v", f)
		}
		ids[f.ID] = true
		if root != "" && strings.Contains(f.Message+f.Fix+fmt.Sprint(f.Facts), root) {
			t.Errorf("the finding shows the injected root: %+v", f)
		}
	}
}

func file(pairs ...string) map[string]string {
	out := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

func both(maplets ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range maplets {
		maps.Copy(out, m)
	}
	return out
}

// exports changes what the cgroup driver plugin exports.
func exports(pairs ...string) func(*testing.T, fixture) {
	return func(_ *testing.T, f fixture) { maps.Copy(f.daemon.plugins[1].Exports, file(pairs...)) }
}

var (
	noSystemd = file("/run/systemd/system/", gone, "/proc/1/comm", "sh\n")
	hybrid    = file("/proc/self/mountinfo", "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n31 20 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"+
		"35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
		"/proc/self/cgroup", "4:memory:/\n0::/\n")
	noKubelet    = file("/proc/77/comm", "bash\n", "/var/lib/kubelet/config.yaml", gone)
	cgroupfsPods = file("/sys/fs/cgroup/kubepods/cgroup.events", "populated 1\n")
	noPods       = file("/sys/fs/cgroup/kubepods.slice/cgroup.events", gone)
)

func stockContainerd(_ *testing.T, f fixture) { f.daemon.plugins = f.daemon.plugins[2:] }

// stale leaves a socket that nobody listens on.
func stale(t *testing.T, f fixture) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: f.at("/run/quoind/quoind.sock")}))
	must(t, unix.Close(fd))
	must(t, os.Chmod(f.at("/run/quoind/quoind.sock"), 0o660))
}

func failedPlugin(message string) func(*testing.T, fixture) {
	return func(_ *testing.T, f fixture) {
		f.daemon.plugins = append(f.daemon.plugins, &introspection.Plugin{Type: "io.x.v1", ID: "y", InitErr: &rpcstatus.Status{Code: 2, Message: message}})
	}
}

var errFake = errors.New("fake")

func fails() error { return errFake }
