// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
)

// fifo is the daemon's side of a bundle's log.
func (b *bed) fifo() <-chan string {
	b.t.Helper()
	path := filepath.Join(b.bundle, "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		b.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		scanner := bufio.NewScanner(f)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		close(lines)
	}()
	b.t.Cleanup(func() { _ = f.Close() })
	return lines
}

// says waits for a line of the log.
func says(t testing.TB, lines <-chan string, what string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line := <-lines:
			if strings.Contains(line, what) {
				return
			}
		case <-timeout:
			t.Fatalf("the log does not say %q", what)
		}
	}
}

// TestShutdown: a shim ends when it is asked to and has no container; the
// request is answered, and the socket is gone.
func TestShutdown(t *testing.T) {
	for range 5 {
		b := newBed(t)
		s := b.start()
		s.run(b)
		if _, err := s.Shutdown(t.Context(), &task.ShutdownRequest{ID: b.id, Now: true}); err != nil {
			t.Error(err)
		}
		s.remove(b)
		s.shutdown(b)
		if _, err := os.Stat(s.path()); !os.IsNotExist(err) {
			t.Errorf("the socket is left: %v", err)
		}
	}
}

// TestSignals: SIGTERM, which systemd sends to all processes of a unit, does not
// take a shim from its containers, and ends one that has none. SIGUSR1 says what
// it does. A client that goes away while it is answered does no harm.
func TestSignals(t *testing.T) {
	b := newBed(t)
	lines := b.fifo()
	s := b.start()
	pid := s.run(b)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
		s.signal(sig)
		says(t, lines, "1 containers are served")
	}
	s.signal(unix.SIGPIPE)
	s.signal(unix.SIGUSR1)
	says(t, lines, "container.(*Container).run")
	if r, err := s.State(t.Context(), &task.StateRequest{ID: b.id}); err != nil || int(r.Pid) != pid {
		t.Errorf("%v, %v", r, err)
	}
	s.remove(b)
	s.signal(unix.SIGTERM)
	s.awaitEnd()
}

// TestLeave: a shim that was told to end does when its containers have ended, with
// all that they have said, and no client is there any more; not before, and its
// containers' exits are on record.
func TestLeave(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, "sh", "-c", "trap 'echo bye; exit 7' TERM; touch $0/ready; while :; do sleep 0.01; done", dir)
	log := filepath.Join(dir, "log")
	lines := b.fifo()
	s := b.start()
	created, err := s.Create(t.Context(), &task.CreateTaskRequest{ID: b.id, Bundle: b.bundle, Options: b.options(), Stdout: "file://" + log})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(t.Context(), &task.StartRequest{ID: b.id}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the container is ready", func() bool {
		_, err := os.Stat(filepath.Join(dir, "ready"))
		return err == nil
	})
	s.signal(unix.SIGTERM)
	says(t, lines, "1 containers are served")
	if err := s.client.Close(); err != nil {
		t.Fatal(err)
	}
	if s.ended(3 * leave) {
		t.Fatal("it has left its container")
	}
	if err := unix.Kill(int(created.Pid), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	says(t, lines, "as it was told to")
	s.awaitEnd()
	if said, err := os.ReadFile(log); err != nil || string(said) != "bye\n" {
		t.Errorf("the log holds %q, %v", said, err)
	}
	if d := b.runDelete(); d.ExitStatus != 7 || d.Pid != created.Pid {
		t.Errorf("what is on record: %v", d)
	}
}

// TestLogIsNotRead: a daemon that is away, or hangs, stops nothing.
func TestLogIsNotRead(t *testing.T) {
	b := newBed(t)
	path := filepath.Join(b.bundle, "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	s := b.start()
	s.run(b)
	for range 30 { // each is some KB, the pipe has 64
		s.signal(unix.SIGUSR1)
		if _, err := s.State(t.Context(), &task.StateRequest{ID: b.id}); err != nil {
			t.Fatal(err)
		}
	}
	s.remove(b)
}

// TestSubreaper: the shim is the parent of what the runtime leaves, and of what
// that leaves, and reaps it.
func TestSubreaper(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, "sh", "-c", "(sleep 1000 & echo $! >$0/new; mv $0/new $0/orphan); sleep 1000", dir)
	s := b.start()
	pid := s.run(b)
	if parent := statField(t, pid, 4); parent != s.pid {
		t.Errorf("the init's parent is %d, the shim is %d", parent, s.pid)
	}
	orphan := 0
	eventually(t, "the orphan is there", func() bool {
		orphan = int(readPid(filepath.Join(dir, "orphan")))
		return orphan != 0
	})
	// Once the shell that has begun it has ended.
	eventually(t, "the orphan's parent is the shim", func() bool { return statField(t, orphan, 4) == s.pid })
	pidfd, err := unix.PidfdOpen(orphan, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan is reaped", func() bool { return unix.PidfdSendSignal(pidfd, 0, nil, 0) == unix.ESRCH })
	s.remove(b)
}

// TestSecondConnection: each client has its own; one that goes takes nothing along.
func TestSecondConnection(t *testing.T) {
	b := newBed(t)
	s := b.start()
	s.run(b)
	if err := s.client.Close(); err != nil {
		t.Error(err)
	}
	s.connect()
	s.remove(b)
}

// TestServeByPath: by hand, or by a daemon that prefers it.
func TestServeByPath(t *testing.T) {
	b := newBed(t)
	if r := b.run(nil, "-socket", filepath.Join(t.TempDir(), strings.Repeat("x", 120))); r.code != 1 || r.stderr == "" {
		t.Errorf("%+v", r)
	}
	if r := b.run(nil); r.code != 1 || !strings.Contains(r.stderr, "descriptor 3 is no listening socket") {
		t.Errorf("without a socket: %+v", r)
	}
}
