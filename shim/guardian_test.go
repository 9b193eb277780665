// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/upgrade"
)

// build makes another shim, beside the first.
func build(name string, flags ...string) (string, error) {
	path := filepath.Join(filepath.Dir(binary), name)
	args := append([]string{"build", "-buildvcs=false", "-buildmode=exe", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, "github.com/quoin-io/quoin/cmd/containerd-shim-quoin-v1")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the shim: %w\n%s", err, out)
	}
	return path, nil
}

// must is for a binary that was built.
func must(t *testing.T, path string, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// release is a shim whose newest format of state is lowered.
func release(t *testing.T, name string, newest int) string {
	t.Helper()
	path, err := build(name, "-tags", "no_grpc", "-ldflags", fmt.Sprintf("-s -w -X github.com/quoin-io/quoin/shim/upgrade.newestByLinker=%d", newest))
	return must(t, path, err)
}

// failing is a shim that fails in a takeover, where and how its environment says.
var failing = sync.OnceValues(func() (string, error) {
	return build("failing", "-tags", "no_grpc,failpoints", "-ldflags", "-s -w")
})

// follow goes on with the process that serves now.
func (s *served) follow() {
	s.t.Helper()
	resp, err := s.Connect(s.t.Context(), &task.ConnectRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	_ = unix.Close(s.pidfd)
	s.pid = int(resp.ShimPid)
	if s.pidfd, err = unix.PidfdOpen(s.pid, 0); err != nil {
		s.t.Fatal(err)
	}
}

// TestGuardian: a binary that fails after it has been executed. The old image goes on
// in another process, with the same connections and streams; exits are told rightly
// although the containers are no longer its children. It can be upgraded itself.
func TestGuardian(t *testing.T) {
	for _, how := range []string{"exit", "kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			testGuardian(t, how)
		})
	}
}

func testGuardian(t *testing.T, how string) {
	path, err := failing()
	bad := must(t, path, err)
	b := newBed(t, conversing...)
	b.env = []string{"QUOIN_FAILPOINT=taken=" + how}
	s := b.start()
	ctx := t.Context()
	pid, say := s.converse(b)
	waited := s.await(b)
	say("begin")
	old := s.pid
	err = s.upgrade(bad)
	if !errdefs.IsAborted(err) || !strings.Contains(fmt.Sprint(err), "the old one goes on as process") {
		t.Fatal(err)
	}
	s.follow()
	if s.pid == old {
		t.Fatal("it is the same process")
	}
	say("guarded")
	if r, err := s.State(ctx, &task.StateRequest{ID: b.id}); err != nil || int(r.Pid) != pid {
		t.Fatalf("%v, %v", r, err)
	}
	if err := s.upgrade(binary); err != nil {
		t.Fatal(err)
	}
	say("upgraded")
	if n := s.info().Totals.Counters; n[control.Upgrades] != 1 || n[control.UpgradesFailed] != 1 {
		t.Errorf("%v", n)
	}
	say("end")
	if w := <-waited; w.GetExitStatus() != 42 {
		t.Errorf("%v", w)
	}
	if _, err := s.Delete(ctx, &task.DeleteRequest{ID: b.id}); err != nil {
		t.Error(err)
	}
	b.again(s)
}

// again makes another container with the shim, which ends by itself: it has no input.
func (b *bed) again(s *served) {
	b.t.Helper()
	s.run(b)
	if w, err := s.Wait(b.t.Context(), &task.WaitRequest{ID: b.id}); err != nil || w.ExitStatus != 0 {
		b.t.Errorf("%v, %v", w, err)
	}
	if _, err := s.Delete(b.t.Context(), &task.DeleteRequest{ID: b.id}); err != nil {
		b.t.Error(err)
	}
}

// TestHangingImage: one that takes everything over and then does nothing is ended, and
// the old one goes on.
func TestHangingImage(t *testing.T) {
	t.Parallel()
	path, err := failing()
	bad := must(t, path, err)
	b := newBed(t)
	b.env = []string{"QUOIN_FAILPOINT=taken=hang"}
	s := b.start()
	pid := s.run(b)
	if err := s.upgrade(bad); !errdefs.IsAborted(err) || !strings.Contains(fmt.Sprint(err), "did not take over in time") {
		t.Fatal(err)
	}
	s.follow()
	if r, err := s.State(t.Context(), &task.StateRequest{ID: b.id}); err != nil || int(r.Pid) != pid {
		t.Errorf("%v, %v", r, err)
	}
	s.remove(b)
}

// TestNeighbouringReleases: to the release before and back, by state of the format
// that both know. What the older one does not know of is lost, and nothing else.
func TestNeighbouringReleases(t *testing.T) {
	older := release(t, "older", 1)
	for _, tc := range []struct{ first, second string }{{binary, older}, {older, binary}} {
		b := newBed(t)
		s := b.start()
		pid := s.run(b)
		waited := s.await(b)
		for n, path := range []string{tc.first, tc.second, tc.first} {
			if err := s.upgrade(path); err != nil {
				t.Fatal(err)
			}
			if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.pid)); err != nil || exe != path {
				t.Errorf("it runs %s, %v", exe, err)
			}
			info := s.info()
			if len(info.Containers) != 1 || info.Containers[0].PID != pid || info.Containers[0].Status != "running" {
				t.Errorf("%+v", info.Containers)
			}
			// It was started as binary: the counts are handed on until an older one
			// takes part.
			want := uint64(1)
			if n > 0 || path == older {
				want = 0
			}
			if got := info.Totals.Calls["create"].Count; got != want {
				t.Errorf("upgrade %d to %s: %d creates are counted", n, filepath.Base(path), got)
			}
			note, err := os.ReadFile(filepath.Join(b.bundle, "shim-binary-path"))
			if err != nil || string(note) != path {
				t.Errorf("shim-binary-path is %q, %v", note, err)
			}
		}
		s.remove(b)
		if w := <-waited; w.GetExitStatus() != 137 {
			t.Errorf("%v", w)
		}
	}
}

// TestNoCommonFormat: a binary of another age is refused before anything happens.
func TestNoCommonFormat(t *testing.T) {
	ancient := release(t, "ancient", 0)
	b := newBed(t)
	s := b.start()
	s.run(b)
	if err := s.upgrade(ancient); !errdefs.IsNotImplemented(err) || !strings.Contains(fmt.Sprint(err), "reads state of format none, this one writes 1, 2") {
		t.Error(err)
	}
	s.remove(b)
}

// TestGrant: the guardian lets nobody go on who is not there any more.
func TestGrant(t *testing.T) {
	for name, tc := range map[string]struct {
		image func(*upgrade.Talk) error
		why   string
	}{
		"asks and waits": {func(talk *upgrade.Talk) error { return talk.Say(upgrade.Confirm) }, ""},
		"asks and ends": {func(talk *upgrade.Talk) error {
			defer talk.Close()
			return talk.Say(upgrade.Confirm)
		}, "it ended"},
		"ends": {func(talk *upgrade.Talk) error {
			talk.Close()
			return nil
		}, "it ended"},
	} {
		image, guardian, err := upgrade.NewTalk()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(image.Close)
		t.Cleanup(guardian.Close)
		if err := tc.image(image); err != nil {
			t.Fatal(err)
		}
		if why := grant(guardian); why != tc.why {
			t.Errorf("an image that %s: %q", name, why)
		}
	}
}
