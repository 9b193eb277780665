// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/containerd/console"
)

// Terminal is a command that runs on a real pseudo terminal, as in a user's
// window.
type Terminal struct {
	// Output is what the terminal shows.
	Output *Output

	master console.Console
	cmd    *exec.Cmd
	exited chan struct{}
}

// Open starts a command on a new pseudo terminal of the given size.
func Open(t testing.TB, cmd *exec.Cmd, width, height uint16) *Terminal {
	t.Helper()
	master, path, err := console.NewPty()
	if err != nil {
		t.Fatalf("make a pseudo terminal: %v", err)
	}
	slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	defer slave.Close()
	term := &Terminal{Output: &Output{}, master: master, cmd: cmd, exited: make(chan struct{})}
	term.Resize(t, width, height)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd, err)
	}
	go func() {
		_, _ = io.Copy(term.Output, master) // ends with EIO when the last slave closes
	}()
	go func() {
		_ = cmd.Wait() // its code is read from ProcessState
		close(term.exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // usually gone already
		<-term.exited
		_ = master.Close() // nothing is written to it any more
		if t.Failed() {
			t.Logf("the terminal of %s showed: %q", cmd, term.Output)
		}
	})
	return term
}

// Type sends keys.
func (term *Terminal) Type(t testing.TB, keys string) {
	t.Helper()
	if _, err := io.WriteString(term.master, keys); err != nil {
		t.Fatalf("type %q: %v", keys, err)
	}
}

// Resize changes the window's size; the kernel tells the foreground processes
// with SIGWINCH.
func (term *Terminal) Resize(t testing.TB, width, height uint16) {
	t.Helper()
	if err := term.master.Resize(console.WinSize{Width: width, Height: height}); err != nil {
		t.Fatalf("resize the terminal: %v", err)
	}
}

// AwaitExit returns the command's exit code.
func (term *Terminal) AwaitExit(t testing.TB) int {
	t.Helper()
	Eventually(t, term.cmd.Path+" exits", func() string {
		select {
		case <-term.exited:
			return ""
		default:
			return "it runs; the terminal shows " + term.Output.String()
		}
	})
	return term.cmd.ProcessState.ExitCode()
}
