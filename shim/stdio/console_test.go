// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// newPTY makes a pseudo-terminal as an OCI runtime does.
func newPTY(t testing.TB) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, openTTY(t, fmt.Sprintf("/dev/pts/%d", n))
}

func openTTY(t testing.TB, path string) *os.File {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), path)
}

// sendFile sends f over the console's socket.
func sendFile(t testing.TB, i *IO, files ...*os.File) {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: i.ConsoleSocket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	if _, _, err := conn.WriteMsgUnix([]byte("/dev/ptmx"), unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
}

// terminalProcess starts script on a new terminal and sends that to i.
func terminalProcess(t testing.TB, i *IO, script string) (cmd *exec.Cmd, slavePath string) {
	t.Helper()
	master, slave := newPTY(t)
	defer master.Close()
	defer slave.Close()
	cmd = exec.Command("/bin/sh", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sendFile(t, i, master)
	return cmd, slave.Name()
}

func startOnTerminal(t testing.TB, i *IO, script string) *exec.Cmd {
	t.Helper()
	cmd, _ := terminalProcess(t, i, script)
	if err := i.Started(testContext(t)); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal(err)
	}
	return cmd
}

func TestTerminal(t *testing.T) {
	checkLeaks(t)
	in, out := mkfifo(t, "in"), mkfifo(t, "out")
	o := testOptions(t)
	i := mustOpen(t, Streams{Stdin: in, Stdout: out, Terminal: true}, o)
	if c, d, e := i.Child(); c != nil || d != nil || e != nil {
		t.Error("a terminal has ends")
	}
	r := readAll(out)
	cmd := startOnTerminal(t, i, "stty -echo; echo ready; read line; echo got $line; stty size; cat")
	if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
		t.Errorf("the socket is still there: %v", left)
	}
	if err := i.Resize(132, 43); err != nil {
		t.Error(err)
	}
	f := client(t, in)
	if _, err := f.WriteString("it\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	f = client(t, in) // the client comes back
	if _, err := f.WriteString("more\nand a begun line"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := i.CloseStdin(); err != nil {
		t.Error(err)
	}
	waitFor(t, cmd) // cat has seen the end of its input
	mustDrain(t, i)
	got := string(r.wait(t))
	got = got[strings.Index(got, "got "):]
	if want := "got it\r\n43 132\r\nmore\r\nand a begun line"; !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := i.Resize(80, 25); err != nil {
		t.Error(err)
	}
	mustClose(t, i)
	if err := i.Resize(80, 25); err != nil {
		t.Error(err)
	}
}

func TestTerminalMegabytes(t *testing.T) {
	checkLeaks(t)
	out := filepath.Join(t.TempDir(), "dir", "log")
	for n := range 3 {
		i := mustOpen(t, Streams{Stdout: "file://" + out, Terminal: true}, testOptions(t))
		cmd := startOnTerminal(t, i, "head -c 2000000 /dev/zero; echo end")
		waitFor(t, cmd)
		mustDrain(t, i)
		mustClose(t, i)
		st, err := os.Stat(out)
		if err != nil || st.Size() != int64(n+1)*2000005 {
			t.Fatalf("%v bytes, %v", st.Size(), err)
		}
	}
}

func TestLastWordsOnATerminal(t *testing.T) {
	checkLeaks(t)
	for n := range 50 {
		out := mkfifo(t, "out")
		i := mustOpen(t, Streams{Stdout: out, Terminal: true}, testOptions(t))
		r := readAll(out)
		cmd := startOnTerminal(t, i, "printf %s last")
		waitFor(t, cmd)
		mustDrain(t, i)
		mustClose(t, i)
		if got := string(r.wait(t)); got != "last" {
			t.Fatalf("run %d: %q", n, got)
		}
	}
}

func TestTerminalIsClosedAndOpenedAgain(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdout: out, Terminal: true}, testOptions(t))
	r := readAll(out)
	// For a moment the terminal is open nowhere but at the master.
	cmd, path := terminalProcess(t, i, "trap '' HUP; T=$(tty); echo before; exec </dev/null >/dev/null 2>&1; read x <$T; echo after >$T")
	if err := i.Started(testContext(t)); err != nil {
		t.Fatal(err)
	}
	master := i.fds.get(consoleMaster)
	eventually(t, "before is read", func() bool {
		i.outputs[0].m.mu.Lock()
		defer i.outputs[0].m.mu.Unlock()
		return i.outputs[0].m.delivered >= uint64(len("before\r\n"))
	})
	before := cpuTime(t)
	timer := time.NewTimer(100 * time.Millisecond)
	<-timer.C // a look at what waiting costs
	if used := cpuTime(t) - before; used > 50*time.Millisecond {
		t.Errorf("waiting took %v of CPU", used)
	}
	eventually(t, "the process reads", func() bool {
		_, err := master.WriteString("\n")
		link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", cmd.Process.Pid))
		return err == nil && (link != path)
	})
	waitFor(t, cmd)
	mustDrain(t, i)
	mustClose(t, i)
	if got := string(r.wait(t)); !strings.Contains(got, "before\r\n") || !strings.Contains(got, "after\r\n") {
		t.Errorf("%q", got)
	}
}

func TestGrandchildHoldsTheTerminal(t *testing.T) {
	for name, daemon := range map[string]string{"idle": "sleep 1000", "busy": "yes"} {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			out := mkfifo(t, "out")
			i := mustOpen(t, Streams{Stdout: out, Terminal: true}, testOptions(t))
			r := readAll(out)
			pids := filepath.Join(t.TempDir(), "pid")
			cmd := startOnTerminal(t, i, "trap '' HUP; head -c 100000 /dev/zero; "+daemon+" & echo $! > "+pids)
			waitFor(t, cmd)
			within(t, 5*time.Second, "Drain", func() { mustDrain(t, i) })
			mustClose(t, i) // yes ends by EIO
			if got := r.wait(t); strings.Count(string(got), "\x00") != 100000 {
				t.Errorf("only %d bytes", len(got))
			}
			var pid int
			if _, err := fmt.Sscan(readLog(t, pids), &pid); err != nil || pid < 2 {
				t.Fatal(pid, err)
			}
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				t.Error(err)
			}
		})
	}
}

func TestTerminalThatNobodyReads(t *testing.T) {
	checkLeaks(t)
	i := mustOpen(t, Streams{Terminal: true}, testOptions(t))
	waitFor(t, startOnTerminal(t, i, "head -c 1000000 /dev/zero"))
	mustDrain(t, i)
}

func TestNoTerminalComes(t *testing.T) {
	checkLeaks(t)
	o := testOptions(t)
	o.Deadlines.Console = 50 * time.Millisecond
	i := mustOpen(t, Streams{Terminal: true}, o)
	wantError(t, i.Started(testContext(t)), context.DeadlineExceeded, "terminal", "box")
	mustClose(t, i)
	if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWhatIsNoTerminal(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, files := range map[string][]*os.File{"none": nil, "two": {null, null}, "a file": {null}} {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			i := mustOpen(t, Streams{Terminal: true}, testOptions(t))
			sendFile(t, i, files...)
			wantError(t, i.Started(testContext(t)), nil, "no usable terminal")
		})
	}
}

func TestConsoleSocketTooLong(t *testing.T) {
	checkLeaks(t)
	o := testOptions(t)
	o.Dir = filepath.Join(t.TempDir(), strings.Repeat("d", 90))
	if err := os.Mkdir(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Open(testContext(t), Streams{Terminal: true}, o)
	wantError(t, err, errdefs.ErrInvalidArgument, "longer than 107")
	if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
