// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/config"
)

// TestMain plays the logging programs, a shim or its process when it is run as
// one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch {
		case strings.HasPrefix(os.Args[1], "logger-"):
			os.Exit(playLogger(os.Args[1], os.Args[2:]))
		case strings.HasPrefix(os.Args[1], "shim-"):
			playShim(os.Args[1], os.Args[2:])
			os.Exit(0)
		case os.Args[1] == "process-tee":
			os.Exit(playTee())
		}
	}
	os.Exit(m.Run())
}

// patience bounds every wait of a test for something that should come at once.
const patience = 20 * time.Second

type osChildren struct{}

func (osChildren) Start(cmd *exec.Cmd) error { return cmd.Start() }
func (osChildren) Wait(cmd *exec.Cmd) error  { return cmd.Wait() }

func testOptions(t testing.TB) Options {
	return Options{
		ID:        "box",
		Namespace: "ns",
		Dir:       shortDir(t),
		Deadlines: config.Deadlines{Console: patience, Open: patience, Logger: patience, Drain: patience},
		Children:  osChildren{},
	}
}

// shortDir is a directory with a path that a socket's address can hold.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls for a state that no event announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not so in time: %s", what)
		}
	}
}

// within fails the test when f does not return in time.
func within(t testing.TB, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s takes more than %v", what, d)
	}
}

// checkLeaks fails the test when descriptors, goroutines or children are left.
func checkLeaks(t testing.TB) {
	t.Helper()
	r, w, err := os.Pipe() // the poller exists from now on
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
	fds, goroutines := openFDs(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		eventually(t, "descriptors and goroutines are gone", func() bool {
			return len(openFDs(t)) <= len(fds) && runtime.NumGoroutine() <= goroutines || report(t, fds)
		})
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != unix.ECHILD {
			t.Errorf("children are left: %v", err)
		}
	})
}

var lastReport time.Time

// report says once a second what is left.
func report(t testing.TB, before map[string]string) bool {
	if time.Since(lastReport) < time.Second {
		return false
	}
	lastReport = time.Now()
	for fd, to := range openFDs(t) {
		if before[fd] != to {
			t.Logf("fd %s → %s", fd, to)
		}
	}
	buf := make([]byte, 1<<16)
	t.Logf("%s", buf[:runtime.Stack(buf, true)])
	return false
}

func openFDs(t testing.TB) map[string]string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	fds := map[string]string{}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			fds[e.Name()] = to
		}
	}
	return fds
}

// mustOpen opens an IO that is closed at the test's end.
func mustOpen(t testing.TB, s Streams, o Options) *IO {
	t.Helper()
	i, err := Open(testContext(t), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, i) })
	return i
}

func mustClose(t testing.TB, i *IO) {
	t.Helper()
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}

func mustDrain(t testing.TB, i *IO) {
	t.Helper()
	if err := i.Drain(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

// process runs a shell script with the IO's ends, as the OCI runtime would.
func process(t testing.TB, i *IO, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	stdin, stdout, stderr := i.Child()
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if stdout != nil {
		cmd.Stdout = stdout
	}
	if stderr != nil {
		cmd.Stderr = stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// start runs script and attaches the clients.
func start(t testing.TB, i *IO, script string) *exec.Cmd {
	t.Helper()
	cmd := process(t, i, script)
	if err := i.Started(testContext(t)); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal(err)
	}
	return cmd
}

func waitFor(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	within(t, patience, "the process", func() {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process: %v", err)
		}
	})
}

// lines is what the shell loop in countTo prints.
func lines(prefix string, n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "%s%d\n", prefix, i)
	}
	return b.String()
}

func countTo(n int, prefix string) string {
	return fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo %s$i; done", n, prefix)
}

func wantError(t *testing.T, err, class error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if class != nil && !errors.Is(err, class) {
		t.Errorf("%v: is not %v", err, class)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: does not say %q", err, w)
		}
	}
}

// shellWith runs script with stdout and with extra as descriptor 3.
func shellWith(t testing.TB, extra, stdout *os.File, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdout, cmd.ExtraFiles = stdout, []*os.File{extra}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}
