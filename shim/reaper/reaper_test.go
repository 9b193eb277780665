// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// The reaper is process-wide, so the tests share one, as the shim does.
var shared = sync.OnceValues(New)

func reaperFor(t *testing.T) *Reaper {
	t.Helper()
	r, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// orphan starts a shell that leaves a background process to this subreaper and
// ends; it returns the pid of what was left. The script runs once the shell is
// gone: until then the shell would reap it.
func orphan(t *testing.T, r *Reaper, script string) int {
	t.Helper()
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer wr.Close()
	cmd := exec.Command("/bin/sh", "-c", "(read x <&3; "+script+") >/dev/null 2>&1 & echo $!")
	cmd.ExtraFiles = []*os.File{rd}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = r.Start(cmd)
	rd.Close()
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(cmd); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// eventually polls, for what has no notification in this process.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func isZombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

func exists(pid int) bool { return unix.Kill(pid, 0) == nil }

func TestStrangerIsReaped(t *testing.T) {
	r := reaperFor(t)
	before := r.Stats().Strangers
	pid := orphan(t, r, "exec true")
	eventually(t, "the orphan is reaped", func() bool { return !exists(pid) })
	eventually(t, "it is counted", func() bool { return r.Stats().Strangers > before })
}

func TestFlightHoldsAStrangerUntilItEnds(t *testing.T) {
	r := reaperFor(t)
	f := r.Begin()
	defer f.End()
	pid := orphan(t, r, "exit 7")
	eventually(t, "the orphan is dead", func() bool { return isZombie(pid) })
	exits := make(chan Exit, 1)
	if _, err := f.Claim(pid, func(e Exit) { exits <- e }); err != nil {
		t.Fatal(err)
	}
	f.End()
	if e := <-exits; e.Status != 7 || e.Unknown {
		t.Fatalf("exit %+v, want status 7", e)
	}
	if exists(pid) {
		t.Fatal("the claimed process was not reaped")
	}
}

func TestUnclaimedAfterFlightIsReaped(t *testing.T) {
	r := reaperFor(t)
	f := r.Begin()
	defer f.End()
	pid := orphan(t, r, "exit 7")
	eventually(t, "the orphan is dead", func() bool { return isZombie(pid) })
	f.End()
	f.End()
	eventually(t, "it is reaped", func() bool { return !exists(pid) })
}

func TestStrangerBehindAnOwnedZombieIsReaped(t *testing.T) {
	r := reaperFor(t)
	cmd := exec.Command("/bin/true")
	if err := r.Start(cmd); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command is dead", func() bool { return isZombie(cmd.Process.Pid) })
	pid := orphan(t, r, "exit 7")
	eventually(t, "the stranger is reaped", func() bool { return !exists(pid) })
	if err := r.Wait(cmd); err != nil {
		t.Fatalf("the command's exit was taken from it: %v", err)
	}
}

func TestClaimSignalStatus(t *testing.T) {
	r := reaperFor(t)
	f := r.Begin()
	pid := orphan(t, r, "exec sleep 100")
	exits := make(chan Exit, 1)
	p, err := f.Claim(pid, func(e Exit) { exits <- e })
	if err != nil {
		t.Fatal(err)
	}
	f.End()
	if err := p.Signal(9999); !errdefs.IsInvalidArgument(err) {
		t.Errorf("signal 9999: %v, want ErrInvalidArgument", err)
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := <-exits; e.Status != 128+int(unix.SIGTERM) {
		t.Fatalf("exit %+v, want 143", e)
	}
	if err := p.Signal(unix.SIGKILL); !errdefs.IsNotFound(err) {
		t.Fatalf("signal after the exit: %v, want ErrNotFound", err)
	}
}

func TestClaimOfNothing(t *testing.T) {
	r := reaperFor(t)
	f := r.Begin()
	defer f.End()
	if _, err := f.Claim(1<<22+1, func(Exit) { t.Error("exit of nothing") }); err == nil {
		t.Fatal("claimed a process that cannot exist")
	}
}

func TestClaimOfSomebodyElsesChild(t *testing.T) {
	r := reaperFor(t)
	cmd := exec.Command("/bin/sh", "-c", "sleep 100 & echo $!; read x; kill $!; wait $!; read y")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(cmd); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	f := r.Begin()
	exits := make(chan Exit, 1)
	if _, err := f.Claim(pid, func(e Exit) { exits <- e }); err != nil {
		t.Fatal(err)
	}
	f.End()
	io.WriteString(in, "\n")
	// Where the kernel does not tell how it ended (before Linux 6.15, once its parent
	// has reaped it), that is said, and nothing made up.
	e := <-exits
	if known := !e.Unknown && e.Status == 143; !known && !(e.Unknown && e.Status == 255) {
		t.Errorf("exit %+v, want that of SIGTERM or an unknown one", e)
	}
	io.WriteString(in, "\n")
	if err := r.Wait(cmd); err != nil {
		t.Fatal(err)
	}
}

func TestCommandsKeepTheirExitsUnderAStorm(t *testing.T) {
	r := reaperFor(t)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("true & exec sh -c 'exit %d'", i))
			if err := r.Start(cmd); err != nil {
				t.Error(err)
				return
			}
			err := r.Wait(cmd)
			var ee *exec.ExitError
			switch {
			case i == 0 && err == nil:
			case errors.As(err, &ee) && ee.ExitCode() == i:
			default:
				t.Errorf("command %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	eventually(t, "no zombie is left", func() bool { _, any := peek(unix.P_ALL, 0); return !any })
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.owned) != 0 || len(r.flights) != 0 {
		t.Errorf("left behind: %d owned, %d flights", len(r.owned), len(r.flights))
	}
}

func TestStartFailure(t *testing.T) {
	r := reaperFor(t)
	if err := r.Start(exec.Command("/no/such/file")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v, want not exist", err)
	}
}
