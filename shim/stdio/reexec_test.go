// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// shimProcess is a playedShim, or the one it has become.
type shimProcess struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.Writer
	replies *bufio.Reader
	log     string // the file of its stderr
}

func startShim(t *testing.T, s Streams) *shimProcess {
	t.Helper()
	streams, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &shimProcess{t: t, cmd: exec.Command(self, "shim-begin", string(streams), shortDir(t))}
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // or each child takes a second to end
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.log = filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	p.cmd.Stderr = stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.replies = bufio.NewReader(stdout)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) // its children and itself
			p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("shim: %s", readLog(t, p.log))
		}
	})
	return p
}

// awaitOK waits for the shim's answer.
func (p *shimProcess) awaitOK() {
	p.t.Helper()
	within(p.t, patience, "the shim", func() {
		if line, err := p.replies.ReadString('\n'); err != nil || line != "ok\n" {
			p.t.Errorf("the shim says %q, %v", line, err)
		}
	})
	if p.t.Failed() {
		p.t.FailNow()
	}
}

func (p *shimProcess) do(command string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.stdin, command); err != nil {
		p.t.Fatalf("%s: %v", command, err)
	}
	p.awaitOK()
}

// end has the shim close everything, and waits for it.
func (p *shimProcess) end() {
	p.t.Helper()
	p.do("end")
	within(p.t, patience, "the shim's end", func() {
		if err := p.cmd.Wait(); err != nil {
			p.t.Errorf("shim: %v", err)
		}
	})
}

// TestReplacingTheProgram lets bytes flow at full speed through a shim that
// replaces itself again and again: by execve, and by a child that has the
// descriptors and nothing else.
func TestReplacingTheProgram(t *testing.T) {
	for name, s := range map[string]struct {
		streams func(*testing.T, *clientEnds) Streams
		raw     bool // a terminal: its end is not in the stream
	}{
		"pipes": {streams: func(t *testing.T, c *clientEnds) Streams {
			return Streams{Stdin: c.stdin(t), Stdout: c.fifo(t), Stderr: c.fifo(t)}
		}},
		"files": {streams: func(t *testing.T, c *clientEnds) Streams {
			return Streams{Stdin: c.stdin(t), Stdout: "file://" + c.file(t), Stderr: c.file(t)}
		}},
		"terminal": {raw: true, streams: func(t *testing.T, c *clientEnds) Streams {
			return Streams{Stdin: c.stdin(t), Stdout: c.fifo(t), Terminal: true}
		}},
		"logger": {streams: func(t *testing.T, c *clientEnds) Streams {
			return Streams{Stdin: c.stdin(t), Stdout: c.logger(t, "binary", 2)}
		}},
		"terminal with a logger": {raw: true, streams: func(t *testing.T, c *clientEnds) Streams {
			return Streams{Stdin: c.stdin(t), Stdout: c.logger(t, "binary-v2", 1), Terminal: true}
		}},
	} {
		for _, how := range [][]string{{"exec"}, {"child"}, {"exec", "unpark", "child", "exec"}} {
			t.Run(name+" by "+strings.Join(how, " and "), func(t *testing.T) {
				checkLeaks(t)
				c := &clientEnds{results: make(chan error, 8)}
				streams := s.streams(t, c)
				p := startShim(t, streams)
				p.awaitOK()
				for n := range 6 {
					p.do(how[n%len(how)])
				}
				eventually(t, "megabytes have been written", func() bool { return c.wrote.Load() > 4<<20 })
				c.stop.Store(true)
				c.finish(t, p, s.raw, how)
			})
		}
	}
}

// clientEnds are the client's ends of an IO whose process writes what it reads.
type clientEnds struct {
	stop    atomic.Bool  // the writer is to end
	wrote   atomic.Int64 // by the writer, known at its end
	in      string
	readers int // that answer in results
	results chan error
	counts  []*atomic.Int64 // how much each reader has got, all of it right
	files   []string
}

// stdin writes a pattern until stop.
func (c *clientEnds) stdin(t *testing.T) string {
	c.in = mkfifo(t, "in")
	go func() { c.results <- c.write() }()
	return c.in
}

func (c *clientEnds) write() error {
	w, err := os.OpenFile(c.in, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	from, buf := pattern(1), make([]byte, 20000)
	for n := 0; !c.stop.Load(); n++ {
		b := buf[:1+(n*7919)%len(buf)]
		if _, err := io.ReadFull(from, b); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("client's stdin: %w", err)
		}
		c.wrote.Add(int64(len(b)))
	}
	return w.Close()
}

// fifo is read and compared with the pattern until its end.
func (c *clientEnds) fifo(t *testing.T) string {
	path := mkfifo(t, "out")
	count := new(atomic.Int64)
	c.counts = append(c.counts, count)
	c.readers++
	go func() {
		r, err := os.Open(path)
		if err == nil {
			err = comparePattern(r, 1, count)
			r.Close()
		}
		c.results <- err
	}()
	return path
}

// comparePattern compares all of r with a pattern and counts.
func comparePattern(r io.Reader, seed byte, count *atomic.Int64) error {
	want := pattern(seed)
	got, expected := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, err := r.Read(got)
		if _, err := io.ReadFull(want, expected[:n]); err != nil {
			return err
		}
		if !bytes.Equal(got[:n], expected[:n]) {
			return fmt.Errorf("wrong bytes between %d and %d", count.Load(), count.Load()+int64(n))
		}
		count.Add(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// file is compared with the pattern in the end.
func (c *clientEnds) file(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.files = append(c.files, path)
	return path
}

// logger writes so many streams to files.
func (c *clientEnds) logger(t *testing.T, scheme string, streams int) string {
	uri, path := loggerURI(t, scheme, "logger-stream")
	c.files = append(c.files, []string{path, path + ".err"}[:streams]...)
	return uri
}

// finish ends the process, moves the IO while its output drains, and compares
// what has arrived.
func (c *clientEnds) finish(t *testing.T, p *shimProcess, raw bool, how []string) {
	t.Helper()
	within(t, patience, "the client's writer", func() { c.check(t, <-c.results) })
	wrote := c.wrote.Load()
	if raw { // the end of input goes through a terminal in raw mode as nothing at all
		c.awaitAll(t, wrote)
		c.hangUp(t, p)
	} else {
		p.do("closeStdin")
		p.do("exited")
	}
	p.do(how[0])
	for range c.readers {
		within(t, patience, "a client's reader", func() { c.check(t, <-c.results) })
	}
	p.end()
	c.awaitAll(t, wrote)
	t.Logf("%d bytes", wrote)
}

func (c *clientEnds) check(t *testing.T, err error) {
	if err != nil {
		t.Error(err)
	}
}

// awaitAll waits until everything has arrived.
func (c *clientEnds) awaitAll(t *testing.T, wrote int64) {
	t.Helper()
	for _, count := range c.counts {
		eventually(t, fmt.Sprintf("%d bytes are there", wrote), func() bool { return count.Load() == wrote })
	}
	for _, path := range c.files {
		eventually(t, fmt.Sprintf("%d bytes are in %s", wrote, filepath.Base(path)), func() bool {
			st, err := os.Stat(path)
			return err == nil && st.Size() == wrote
		})
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		c.check(t, comparePattern(f, 1, new(atomic.Int64)))
		f.Close()
	}
}

// hangUp kills the process.
func (c *clientEnds) hangUp(t *testing.T, p *shimProcess) {
	t.Helper()
	fmt.Fprintln(p.stdin, "pid")
	var pid int
	line, err := p.replies.ReadString('\n')
	if _, scanErr := fmt.Sscan(line, &pid); err != nil || scanErr != nil || pid < 2 {
		t.Fatalf("the shim says %q, %v", line, err)
	}
	p.awaitOK()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.do("exited")
}
