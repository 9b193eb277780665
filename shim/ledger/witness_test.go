// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// subject is a process that is watched; this test reaps it when it wants to.
type subject struct {
	*exec.Cmd
	id Identity
	w  *Witness
}

func watch(t *testing.T, script string) subject {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	must(t, cmd.Start())
	reaped := false
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if !reaped {
			_ = cmd.Wait() // its exit was the test's intention
		}
	})
	id, err := Identify(cmd.Process.Pid)
	must(t, err)
	w, err := Watch(id)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return subject{cmd, id, w}
}

// absent stands for a kernel of before 6.13, and for one of before 6.15, which
// know the call, or part of it, no more.
var absent = map[string]func(int, *unix.PidfdInfo) error{
	"no such call": func(int, *unix.PidfdInfo) error { return unix.ENOTTY },
	"no such size": func(int, *unix.PidfdInfo) error { return unix.EINVAL },
	"no exit": func(_ int, info *unix.PidfdInfo) error {
		info.Mask = unix.PIDFD_INFO_PID
		return nil
	},
	"gone": func(int, *unix.PidfdInfo) error { return unix.ESRCH },
}

// hasExit says whether this kernel keeps exits. The tests ask for what is right on
// either kind.
func hasExit(t *testing.T) bool {
	t.Helper()
	s := watch(t, "exit 9")
	_ = s.Wait()
	_, ok := s.w.status()
	return ok
}

func TestWitness(t *testing.T) {
	kept := hasExit(t)
	for name, tc := range map[string]struct {
		script string
		kill   unix.Signal
		status int
		signal int
	}{
		"exits":           {"exit 7", 0, 7, 0},
		"exits with 137":  {"exit 137", 0, 137, 0},
		"is killed":       {"exec sleep 1000", unix.SIGKILL, 137, 9},
		"gets a signal":   {"exec sleep 1000", unix.SIGUSR1, 138, 10},
		"exits with zero": {"exit 0", 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := watch(t, tc.script)
			if tc.kill != 0 {
				must(t, s.Process.Signal(tc.kill))
			}
			must(t, s.w.Wait(t.Context()))
			_ = s.Wait()
			e, err := s.w.Exit(t.Context())
			must(t, err)
			if !kept {
				if !e.Unknown || e.Status != UnknownStatus {
					t.Errorf("%+v, want an unknown one on this kernel", e)
				}
				return
			}
			if e.Unknown || e.Status != tc.status || e.Signal != tc.signal || e.Pid != s.id.Pid || e.Learnt != LearntPidfd {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestZombie: nobody reaps it, so its status is read from there.
func TestZombie(t *testing.T) {
	s := watch(t, "exit 7")
	must(t, s.w.Wait(t.Context()))
	e, err := s.w.Exit(t.Context())
	if err != nil || e.Status != 7 || e.Unknown || e.Learnt != LearntZombie {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := Watch(s.id); err != nil {
		t.Errorf("a zombie cannot be watched: %v", err)
	}
}

// TestOldKernel: without the kernel's help an exit is unknown, and time is not
// wasted; only what the witness has killed itself is known.
func TestOldKernel(t *testing.T) {
	for name, info := range absent {
		t.Run(name, func(t *testing.T) {
			s := watch(t, "exit 7")
			s.w.info = info
			_ = s.Wait()
			e, err := s.w.Exit(t.Context())
			if err != nil || !e.Unknown || e.Status != UnknownStatus || e.Signal != 0 || e.Learnt != "" || time.Since(e.At) > time.Minute {
				t.Errorf("%+v, %v", e, err)
			}

			s = watch(t, "exec sleep 1000")
			s.w.info = info
			must(t, s.w.Kill())
			_ = s.Wait()
			e, err = s.w.Exit(t.Context())
			if err != nil || e.Unknown || e.Status != 137 || e.Signal != 9 || e.Learnt != LearntKilled {
				t.Errorf("killed: %+v, %v", e, err)
			}

			// A kill that came too late changes nothing.
			s = watch(t, "exit 7")
			s.w.info = info
			must(t, s.w.Wait(t.Context()))
			must(t, s.w.Kill())
			_ = s.Wait()
			if e, err = s.w.Exit(t.Context()); err != nil || !e.Unknown {
				t.Errorf("killed too late: %+v, %v", e, err)
			}
		})
	}
}

func TestAlive(t *testing.T) {
	s := watch(t, "exec sleep 1000")
	if _, err := s.w.Exit(t.Context()); !errors.Is(err, errdefs.ErrFailedPrecondition) || s.w.Dead() {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.w.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestAnotherProcess: neither a later process of the pid nor one of an earlier boot
// is taken for the one that is meant.
func TestAnotherProcess(t *testing.T) {
	s := watch(t, "exec sleep 1000")
	later, earlier, gone := s.id, s.id, s.id
	later.Start++
	earlier.Boot = "another"
	gone.Pid = 1<<22 + 1
	for name, id := range map[string]Identity{"later": later, "earlier": earlier, "gone": gone} {
		if w, err := Watch(id); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%s: %v, %v", name, w, err)
		}
	}
	if _, err := Watch(Identity{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("none: %v", err)
	}
	if _, err := Identify(gone.Pid); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("identify: %v", err)
	}
	must(t, s.Process.Kill())
	_ = s.Wait()
	if w, err := Watch(s.id); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("reaped: %v, %v", w, err)
	}
	must(t, s.w.Kill()) // is no error
}
