// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shimTB lets what needs a test run in another program.
type shimTB struct{ testing.TB }

func (shimTB) Helper()        {}
func (shimTB) Cleanup(func()) {}
func (shimTB) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"shim:"}, args...)...)
	os.Exit(1)
}
func (t shimTB) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }

// shimState is what one image of the shim leaves to the next.
type shimState struct {
	Pid    int         // of the process
	Exited bool        // its streams are to be finished
	Dir    string      // of sockets
	IO     State       // its streams
	FDs    map[int]int // where a descriptor of IO has been carried to
}

// playedShim has one IO and does what it is told by lines of its stdin, each of
// which it answers with one of its stdout. What it is told about is in shimState.
type playedShim struct {
	t shimTB
	shimState
	io       *IO
	commands *bufio.Reader
	finished chan error // of a Finish under way
}

// playShim plays a shim: "shim-begin" with Streams in JSON and a directory, or
// "shim-resume" with the number of the descriptor that holds a shimState.
func playShim(how string, args []string) {
	p := &playedShim{commands: bufio.NewReader(os.Stdin), finished: make(chan error, 1)}
	if how == "shim-begin" {
		p.begin(args[0], args[1])
	} else {
		p.resume(args[0])
	}
	for {
		fmt.Println("ok")
		line, err := p.commands.ReadString('\n')
		if err != nil {
			p.t.Fatal("no command:", err)
		}
		switch line {
		case "exec\n":
			p.exec()
		case "child\n":
			p.child()
			return
		case "unpark\n":
			mustPark(p.t, p.io)
			p.io.Unpark()
		case "closeStdin\n":
			p.must(p.io.CloseStdin())
		case "pid\n":
			fmt.Println(p.Pid)
		case "exited\n": // waits for the process and begins to finish
			p.awaitProcess()
			p.Exited = true
			go p.finish()
		case "end\n":
			p.must(<-p.finished)
			p.must(p.io.Close())
			fmt.Println("ok")
			p.reapAll()
			return
		default:
			p.t.Fatal("unknown command", line)
		}
	}
}

func (p *playedShim) must(err error) {
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *playedShim) options() Options {
	o := Options{ID: "box", Namespace: "ns", Dir: p.Dir, Children: adopter{}}
	o.Deadlines.Drain, o.Deadlines.Logger = patience, patience
	return o
}

func (p *playedShim) begin(streams, dir string) {
	p.Dir = dir
	var s Streams
	p.must(json.Unmarshal([]byte(streams), &s))
	var err error
	p.io, err = Open(context.Background(), s, p.options())
	p.must(err)
	self, err := os.Executable()
	p.must(err)
	cmd := exec.Command(self, "process-tee")
	stdin, stdout, stderr := p.io.Child()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	if s.Terminal {
		master, slave := newPTY(p.t)
		makeRaw(p.t, slave)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, nil
		defer slave.Close()
		sendFile(p.t, p.io, master)
		master.Close()
	}
	p.must(cmd.Start())
	p.Pid = cmd.Process.Pid
	p.must(p.io.Started(context.Background()))
}

// playTee is the process: it writes what it reads to both of its outputs, and
// ends with its input.
func playTee() int {
	var to io.Writer = struct{ io.Writer }{os.Stdout}
	if st, err := os.Stderr.Stat(); err == nil && st.Mode()&os.ModeNamedPipe != 0 {
		to = io.MultiWriter(os.Stdout, os.Stderr)
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := os.Stdin.Read(buf)
		if _, err := to.Write(buf[:n]); err != nil {
			return 3
		}
		if err != nil {
			return 0
		}
	}
}

// pack parks the streams and writes what the next image needs to a descriptor
// that it inherits.
func (p *playedShim) pack() *os.File {
	p.IO = mustPark(p.t, p.io)
	fd, err := unix.MemfdCreate("state", 0)
	p.must(err)
	f := os.NewFile(uintptr(fd), "state")
	p.must(json.NewEncoder(f).Encode(p.shimState))
	return f
}

// exec replaces the program by itself.
func (p *playedShim) exec() {
	f := p.pack()
	for _, fd := range p.IO.FDs() {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		p.must(err)
	}
	p.must(syscall.Exec("/proc/self/exe", []string{os.Args[0], "shim-resume", fmt.Sprint(f.Fd())}, os.Environ()))
}

// child goes on in a child, which has the descriptors by other numbers and is no
// parent of the process or a logger. This process only waits for its children.
func (p *playedShim) child() {
	p.IO = mustPark(p.t, p.io)
	cmd := exec.Command("/proc/self/exe", "shim-resume", "3")
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{nil}
	p.FDs = map[int]int{}
	for _, fd := range p.IO.FDs() {
		p.FDs[fd] = 3 + len(cmd.ExtraFiles)
		f, err := dupFile(fd)
		p.must(err)
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	fd, err := unix.MemfdCreate("state", unix.MFD_CLOEXEC)
	p.must(err)
	cmd.ExtraFiles[0] = os.NewFile(uintptr(fd), "state")
	p.must(json.NewEncoder(cmd.ExtraFiles[0]).Encode(p.shimState))
	p.must(cmd.Start())
	p.must(p.io.Abandon())
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	p.must(cmd.Wait())
	p.reapAll()
}

// reapAll waits for all children.
func (p *playedShim) reapAll() {
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			return
		} else if err != nil && err != unix.EINTR {
			p.t.Fatal(err)
		}
	}
}

func (p *playedShim) resume(stateFD string) {
	fd, err := strconv.Atoi(stateFD)
	p.must(err)
	f := os.NewFile(uintptr(fd), "state")
	_, err = f.Seek(0, io.SeekStart)
	p.must(err)
	p.must(json.NewDecoder(f).Decode(&p.shimState))
	p.must(f.Close())
	p.io, err = Resume(p.IO, func(fd int) (*os.File, error) {
		if to, ok := p.FDs[fd]; ok {
			fd = to
		}
		unix.CloseOnExec(fd)
		return os.NewFile(uintptr(fd), "inherited"), nil
	}, p.options())
	p.must(err)
	p.FDs = nil
	p.must(p.io.Go())
	if p.Exited {
		go p.finish()
	}
}

func (p *playedShim) awaitProcess() {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	p.must(err)
	defer unix.Close(fd)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		p.must(err)
		return
	}
}

func (p *playedShim) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.finished <- p.io.Finish(ctx, time.Minute)
}
