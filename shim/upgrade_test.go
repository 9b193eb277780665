// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/control"
)

// manage opens a connection to a shim's control service, for its caller to close.
func (s *served) manage() *control.Client {
	s.t.Helper()
	c, err := control.Dial(s.t.Context(), s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *served) info() control.Info {
	s.t.Helper()
	c := s.manage()
	defer c.Close()
	info, err := c.Info(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return info
}

// upgrade has the shim go on as a binary.
func (s *served) upgrade(path string) error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	c := s.manage()
	defer c.Close()
	r, err := c.Upgrade(ctx, control.UpgradeRequest{Path: path})
	if err == nil && r.PID != s.pid {
		s.t.Errorf("the shim is process %d and was %d", r.PID, s.pid)
	}
	return err
}

// streams are named pipes for a container, with what comes out of them.
func (b *bed) streams() (stdin, stdout string, in *os.File, lines <-chan string) {
	b.t.Helper()
	dir := b.t.TempDir()
	stdin, stdout = filepath.Join(dir, "in"), filepath.Join(dir, "out")
	var files [2]*os.File
	for i, path := range []string{stdin, stdout} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			b.t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { _ = f.Close() })
		files[i] = f
	}
	out := make(chan string, 1000)
	go func() {
		defer close(out)
		for {
			var line string
			if _, err := fmt.Fscanln(files[1], &line); err != nil {
				return
			}
			out <- line
		}
	}()
	return stdin, stdout, files[0], out
}

// conversing is a container that answers each line, until "end".
var conversing = []string{"sh", "-c", `while read x; do echo "got-$x"; [ $x = end ] && exit 42; done`}

// converse runs the container of a bed for conversing.
func (s *served) converse(b *bed) (pid int, say func(word string)) {
	s.t.Helper()
	stdin, stdout, in, lines := b.streams()
	created, err := s.Create(s.t.Context(), &task.CreateTaskRequest{ID: b.id, Bundle: b.bundle, Options: b.options(), Stdin: stdin, Stdout: stdout})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Start(s.t.Context(), &task.StartRequest{ID: b.id}); err != nil {
		s.t.Fatal(err)
	}
	return int(created.Pid), func(word string) {
		s.t.Helper()
		if _, err := io.WriteString(in, word+"\n"); err != nil {
			s.t.Fatal(err)
		}
		if line := <-lines; line != "got-"+word {
			s.t.Fatalf("%q came of %q", line, word)
		}
	}
}

// await asks for the end of a container, and tells it when it comes.
func (s *served) await(b *bed) <-chan *task.WaitResponse {
	waited := make(chan *task.WaitResponse, 1)
	go func() {
		w, err := s.Wait(s.t.Context(), &task.WaitRequest{ID: b.id})
		if err != nil {
			s.t.Error(err)
		}
		waited <- w
	}()
	return waited
}

// TestUpgrade: three times in a row. The container, its streams, what is asked and
// the connections go on; the pid stays, and nothing piles up.
func TestUpgrade(t *testing.T) {
	b := newBed(t, conversing...)
	s := b.start()
	ctx := t.Context()
	pid, say := s.converse(b)
	waited := s.await(b)
	say("begin")
	eventually(t, "the OCI runtime has told its version", func() bool { // descriptors of their own, until then
		notes, err := filepath.Glob(filepath.Join(filepath.Dir(b.bundle), ".quoin-oci-version-*.json"))
		return err == nil && len(notes) == 1
	})
	before := s.info()
	for n := range 3 {
		if err := s.upgrade(binary); err != nil {
			t.Fatal(err)
		}
		say(fmt.Sprint(n))
		if r, err := s.State(ctx, &task.StateRequest{ID: b.id}); err != nil || int(r.Pid) != pid {
			t.Fatalf("%v, %v", r, err)
		}
	}
	var after control.Info
	eventually(t, "the closed connections are gone", func() bool {
		after = s.info()
		return after.OpenFiles == before.OpenFiles && after.Goroutines <= before.Goroutines+1
	})
	if after.PID != before.PID || !after.Started.Equal(before.Started) ||
		after.Totals.Counters[control.Upgrades] != 3 || after.Totals.Calls["create"].Count != 1 {
		t.Errorf("%+v\nbefore: %+v", after, before)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.pid))
	if err != nil || strings.TrimSpace(string(comm)) != "containerd-shim" {
		t.Errorf("it is called %q, %v", comm, err)
	}
	say("end")
	if w := <-waited; w.GetExitStatus() != 42 {
		t.Errorf("%v", w)
	}
	if d, err := s.Delete(ctx, &task.DeleteRequest{ID: b.id}); err != nil || d.ExitStatus != 42 {
		t.Errorf("%v, %v", d, err)
	}
	s.shutdown(b)
	if _, err := os.Stat(s.path()); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestRefusedUpgrade: whatever is wrong with the binary, the shim goes on.
func TestRefusedUpgrade(t *testing.T) {
	b := newBed(t)
	s := b.start()
	s.run(b)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct {
		path  string
		class func(error) bool
	}{
		"missing":   {dir + "/none", errdefs.IsInvalidArgument},
		"relative":  {"shim", errdefs.IsInvalidArgument},
		"no binary": {write("rubbish", "rubbish"), errdefs.IsFailedPrecondition},
		"not ours":  {"/bin/true", errdefs.IsFailedPrecondition},
	} {
		if err := s.upgrade(tc.path); err == nil || !tc.class(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := s.info().Totals.Counters[control.UpgradesFailed]; n != 4 {
		t.Errorf("%d failed", n)
	}
	if err := s.upgrade(""); err != nil { // by the path of its own
		t.Error(err)
	}
	s.remove(b)
}

// TestExitDuringUpgrade: what ends while nobody reaps is told with its true status.
func TestExitDuringUpgrade(t *testing.T) {
	b := newBed(t, "sh", "-c", "trap 'exit 33' TERM; while :; do sleep 0.01; done")
	s := b.start()
	pid := s.run(b)
	waited := s.await(b)
	for n := range 5 {
		if n == 2 {
			if err := unix.Kill(pid, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.upgrade(binary); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case w := <-waited:
		if w.GetExitStatus() != 33 {
			t.Errorf("%v", w)
		}
	case <-time.After(patience):
		t.Fatal("its exit was lost")
	}
	if _, err := s.Delete(t.Context(), &task.DeleteRequest{ID: b.id}); err != nil {
		t.Error(err)
	}
}

// TestDeathSignal: a process that wants to die with its parent, as tini -p and
// bubblewrap arrange it, has none that dies in an upgrade.
func TestDeathSignal(t *testing.T) {
	b := newBed(t, "setpriv", "--pdeathsig", "KILL", "sleep", "1000")
	s := b.start()
	pid := s.run(b)
	eventually(t, "it has asked for the signal", func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return err == nil && strings.TrimSpace(string(comm)) == "sleep"
	})
	for range 3 {
		if err := s.upgrade(binary); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := s.State(t.Context(), &task.StateRequest{ID: b.id}); err != nil || r.Status != tasktypes.Status_RUNNING {
		t.Errorf("%v, %v", r, err)
	}
	s.remove(b)
}

// TestUpgradesAtOnce: one after the other, or refused; never two.
func TestUpgradesAtOnce(t *testing.T) {
	b := newBed(t)
	s := b.start()
	pid := s.run(b)
	results := make(chan error, 6)
	for range cap(results) {
		go func() { results <- s.upgrade(binary) }()
	}
	done := uint64(0)
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			done++
		case !errdefs.IsFailedPrecondition(err):
			t.Error(err)
		}
	}
	if done == 0 {
		t.Error("none was done")
	}
	info := s.info()
	if n := info.Totals.Counters[control.Upgrades]; n > done || info.PID != s.pid || info.Containers[0].PID != pid {
		t.Errorf("%d were done: %+v", done, info)
	}
	s.remove(b)
}

// TestUpgradeOfAnEmptyShim: one that waits for its first container.
func TestUpgradeOfAnEmptyShim(t *testing.T) {
	b := newBed(t)
	s := b.start()
	if err := s.upgrade(binary); err != nil {
		t.Fatal(err)
	}
	s.run(b)
	s.remove(b)
	if err := s.upgrade(binary); err != nil {
		t.Fatal(err)
	}
	s.shutdown(b)
}
