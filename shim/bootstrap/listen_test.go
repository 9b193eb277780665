// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// listenerEnv makes this test binary a process that listens at the path given.
const listenerEnv = "QUOIN_TEST_LISTEN"

func TestMain(m *testing.M) {
	if path := os.Getenv(listenerEnv); path != "" {
		os.Exit(listenOnce(path))
	}
	os.Exit(m.Run())
}

// listenOnce waits for a line, listens, says how that went, and keeps listening
// until its input ends.
func listenOnce(path string) int {
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return 2
	}
	l, err := Listen(path)
	var used *InUseError
	switch {
	case err == nil:
		defer l.Close()
		fmt.Println("listening")
	case errors.As(err, &used):
		fmt.Println("in use", used.Address)
	default:
		fmt.Println("failed", err)
	}
	_, _ = io.Copy(io.Discard, in)
	return 0
}

type starter struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startProcess(t *testing.T, path string) *starter {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), listenerEnv+"="+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // an orderly end takes a second under the race detector
		_ = cmd.Wait()
	})
	return &starter{cmd, in, bufio.NewReader(out)}
}

func (s *starter) answer(t *testing.T) string {
	t.Helper()
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// shortDir is a directory whose sockets fit, whatever the test's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// TestConcurrentListen lets processes race for one path, from nothing and over a
// dead socket: always one listens and the others learn its address.
func TestConcurrentListen(t *testing.T) {
	const processes = 8
	for _, stale := range []bool{false, true} {
		t.Run(fmt.Sprintf("stale=%v", stale), func(t *testing.T) {
			for range 5 {
				path := filepath.Join(shortDir(t), "x")
				if stale {
					leaveDead(t, path)
				}
				var all []*starter
				for range processes {
					all = append(all, startProcess(t, path))
				}
				for _, s := range all {
					if _, err := io.WriteString(s.in, "go\n"); err != nil {
						t.Fatal(err)
					}
				}
				listening := 0
				for _, s := range all {
					switch got := s.answer(t); got {
					case "listening":
						listening++
					case "in use " + Address(path):
					default:
						t.Fatal(got)
					}
				}
				if listening != 1 {
					t.Fatalf("%d of %d listen", listening, processes)
				}
			}
		})
	}
}

// leaveDead leaves the socket of a process that is gone.
func leaveDead(t *testing.T, path string) {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the listener took its socket along: %v", err)
	}
}

func TestListenOverKilled(t *testing.T) {
	path := filepath.Join(shortDir(t), "x")
	s := startProcess(t, path)
	if _, err := io.WriteString(s.in, "go\n"); err != nil {
		t.Fatal(err)
	}
	if got := s.answer(t); got != "listening" {
		t.Fatal(got)
	}
	var used *InUseError
	if _, err := Listen(path); !errors.As(err, &used) || !errors.Is(err, errdefs.ErrAlreadyExists) || used.Address != Address(path) {
		t.Fatalf("with a living shim: %v", err)
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = s.cmd.Process.Wait()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := Dial(t.Context(), Address(path))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// TestListenFullBacklog has a shim that is too busy to accept: it is alive.
func TestListenFullBacklog(t *testing.T) {
	path := filepath.Join(shortDir(t), "x")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var conns []int
	defer func() {
		for _, fd := range conns {
			unix.Close(fd)
		}
	}()
	for {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Listen(path); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Fatal(err)
	}
}

func TestListenModes(t *testing.T) {
	old := unix.Umask(0) // the worst case
	defer unix.Umask(old)
	dir := shortDir(t)
	path := filepath.Join(dir, "x")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, want := range map[string]os.FileMode{dir: os.ModeDir | 0o700, path: os.ModeSocket | 0o600} {
		info, err := os.Lstat(name)
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if err := Remove(path); err != nil {
		t.Error(err)
	}
	if err := Remove(path); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, dir string)
		class   error
	}{
		"directory is a symbolic link": {func(t *testing.T, dir string) { must(t, os.Symlink(t.TempDir(), dir)) }, errdefs.ErrFailedPrecondition},
		"directory is a file":          {func(t *testing.T, dir string) { must(t, os.WriteFile(dir, nil, 0o600)) }, errdefs.ErrFailedPrecondition},
		"others may write": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.Chmod(dir, 0o1777))
		}, errdefs.ErrFailedPrecondition},
		"group may write": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.Chmod(dir, 0o770))
		}, errdefs.ErrFailedPrecondition},
		"a file is in the way": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "x"), []byte("data"), 0o600))
		}, errdefs.ErrFailedPrecondition},
		"a symbolic link is in the way": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.Symlink("/nowhere", filepath.Join(dir, "x")))
		}, errdefs.ErrFailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			tc.prepare(t, dir)
			if l, err := Listen(filepath.Join(dir, "x")); !errors.Is(err, tc.class) {
				t.Fatalf("got %v, %v", l, err)
			}
		})
	}
	if _, err := Listen("/tmp/" + strings.Repeat("x", 102)); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "107 bytes") {
		t.Errorf("too long: %v", err)
	}
}

func TestListenRefusesForeignDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make another user's directory")
	}
	dir := shortDir(t)
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chown(dir, 65534, 65534))
	if _, err := Listen(filepath.Join(dir, "x")); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Fatal(err)
	}
}

// TestListenWaitsForLock holds the lock as another process would.
func TestListenWaitsForLock(t *testing.T) {
	dir := shortDir(t)
	holder, err := openDir(dir)
	must(t, err)
	must(t, unix.Flock(int(holder.Fd()), unix.LOCK_EX))
	done := make(chan error, 1)
	go func() {
		l, err := Listen(filepath.Join(dir, "x"))
		if err == nil {
			err = l.Close()
		}
		done <- err
	}()
	for waiting := false; !waiting; runtime.Gosched() {
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		waiting = lockAwaited(t, holder)
	}
	must(t, holder.Close())
	must(t, <-done)
}

// lockAwaited tells whether somebody waits for the lock on f; the kernel marks
// waiters by "->" below the lock's holder.
func lockAwaited(t *testing.T, f *os.File) bool {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	locks, err := os.ReadFile("/proc/locks")
	must(t, err)
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d ", st.Ino)) {
			return true
		}
	}
	return false
}

// TestSameUser connects as another user through a socket that lets everybody in.
func TestSameUser(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "x")
	l, err := Listen(path)
	must(t, err)
	defer l.Close()
	handshake := func() error {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		defer conn.Close()
		_, _, err = SameUser().Handshake(t.Context(), conn)
		return err
	}
	mine, err := net.Dial("unix", path)
	must(t, err)
	defer mine.Close()
	if err := handshake(); err != nil {
		t.Errorf("our own user: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(path, 0o666))
	errs := make(chan error, 1)
	go func() { errs <- connectAs(65534, path) }()
	if err := handshake(); err == nil {
		t.Error("another user was admitted")
	}
	must(t, <-errs)
}

// connectAs changes the user of one thread and gives the thread up.
func connectAs(uid int, path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
		return errno
	}
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
