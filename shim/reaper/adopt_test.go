// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// child starts a shell and returns it with a pidfd of it; nobody waits for it.
func child(t *testing.T, script string) (int, *os.File) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // usually gone
		_ = f.Close()          // the reaper's, after Reclaim
	})
	return pid, f
}

func dead(t *testing.T, f *os.File) {
	t.Helper()
	p := &Process{}
	var err error
	if p.conn, err = f.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	if err := p.ready(); err != nil {
		t.Fatal(err)
	}
}

// TestParkedZombie: what dies while the reaper is parked stays a zombie with its
// status, for whoever comes next; nothing is reaped by a resumed one before Unpark.
func TestParkedZombie(t *testing.T) {
	old := reaperFor(t)
	if err := old.Park(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid, f := child(t, "exit 7")
	dead(t, f)
	exits := make(chan Exit, 1)
	p, err := old.Reclaim(pid, f, func(e Exit) { exits <- e })
	if err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-exits:
		t.Fatalf("reaped although it is parked: %+v", e)
	case <-time.After(50 * time.Millisecond): // it has had its chance
	}
	if fd, ok := p.Pidfd(); !ok || fd < 3 {
		t.Errorf("pidfd %d, %v", fd, ok)
	}
	if err := p.Signal(0); err != nil {
		t.Errorf("it is still there: %v", err)
	}
	old.Unpark()
	if e := <-exits; e.Status != 7 || e.Unknown {
		t.Errorf("%+v", e)
	}
	if _, ok := p.Pidfd(); ok {
		t.Error("its descriptor is left")
	}
}

func TestReclaimedSignal(t *testing.T) {
	r := reaperFor(t)
	pid, f := child(t, "exec sleep 1000")
	exits := make(chan Exit, 1)
	p, err := r.Reclaim(pid, f, func(e Exit) { exits <- e })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reclaim(pid, f, nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("twice: %v", err)
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := <-exits; e.Signal != unix.SIGTERM || e.Status != 128+15 || e.Unknown {
		t.Errorf("%+v", e)
	}
}

// TestStrangersExit: of a process that is not a child the kernel tells the status
// all the same, while it is a zombie and after it was reaped.
func TestStrangersExit(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		status int
		signal unix.Signal
		reap   bool // before the reaper looks
	}{
		"zombie":        {"exit 42", 42, 0, false},
		"killed zombie": {"kill -KILL $$", 137, unix.SIGKILL, false},
		"reaped":        {"exit 42", 42, 0, true},
		"killed":        {"kill -TERM $$", 143, unix.SIGTERM, true},
	} {
		t.Run(name, func(t *testing.T) {
			parent, pid, f := grandchild(t, tc.script)
			dead(t, f)
			if tc.reap {
				parent.reap(t)
			}
			conn, err := f.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			p := &Process{pid: pid, conn: conn}
			if e := p.reap(time.Now()); e.Unknown || e.Status != tc.status || e.Signal != tc.signal {
				t.Errorf("%+v", e)
			}
			if !tc.reap {
				parent.reap(t)
			}
		})
	}
}

// parent is a shell with one child, which it reaps when it is told to.
type parent struct {
	cmd   *exec.Cmd
	stdin *os.File
}

func (p parent) reap(t *testing.T) {
	t.Helper()
	if err := p.stdin.Close(); err != nil {
		t.Error(err)
	}
	_ = p.cmd.Wait() // its status is its child's
}

func grandchild(t *testing.T, script string) (parent, int, *os.File) {
	t.Helper()
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// The child waits for its pidfd to be opened.
	goR, goW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `sh -c 'read x <&3; `+script+`' & exec 3<&-; echo $!; exec >&-; read x; wait $!`)
	cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = inR, outW, []*os.File{goR}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{inR, outW, goR} {
		_ = f.Close()
	}
	defer outR.Close()
	line := make([]byte, 32)
	n, err := outR.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid := 0
	for _, c := range strings.TrimSpace(string(line[:n])) {
		pid = pid*10 + int(c-'0')
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { _ = f.Close() })
	if err := goW.Close(); err != nil {
		t.Fatal(err)
	}
	return parent{cmd, inW}, pid, f
}

// TestUnknownExit: when nobody can tell, nothing is made up.
func TestUnknownExit(t *testing.T) {
	r, err := os.Open("/dev/null") // no pidfd: the kernel tells nothing of it
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{pid: os.Getpid(), conn: conn}
	if e := p.reap(time.Now()); !e.Unknown || e.Status != unknownStatus || e.At.IsZero() {
		t.Errorf("%+v", e)
	}
}

func TestAdopt(t *testing.T) {
	r := reaperFor(t)
	for script, want := range map[string]string{"exit 0": "", "exit 3": "exit status 3", "kill -KILL $$": "signal: killed"} {
		// As in an image that goes on with the children of another: until they are
		// adopted, nobody takes them for strangers.
		if err := r.Park(t.Context()); err != nil {
			t.Fatal(err)
		}
		pid, f := child(t, script)
		wait, err := r.Adopt(pid, f)
		r.Unpark()
		if err != nil {
			t.Fatal(err)
		}
		dead(t, f)
		got := ""
		if err := wait(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q", script, got)
		}
	}
	// Nobody's child, or somebody else's.
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wait, err := r.Adopt(1, f)
	if err != nil {
		t.Fatal(err)
	}
	if err := wait(); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Error(err)
	}
}

func TestParkIsBounded(t *testing.T) {
	r := reaperFor(t)
	r.gate.enter()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Park(over); !errdefs.IsUnavailable(err) {
		t.Error(err)
	}
	r.gate.leave()
	if err := r.Park(t.Context()); err != nil {
		t.Error(err)
	}
	r.Unpark()
}

func TestEndedProcess(t *testing.T) {
	p := Ended(5)
	if err := p.Signal(0); !errdefs.IsNotFound(err) || p.Pid() != 5 {
		t.Error(err)
	}
	if _, ok := p.Pidfd(); ok {
		t.Error("it has a descriptor")
	}
}
