// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	goruntime "runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	busSocket  = "/run/dbus/system_bus_socket"
	busAddress = "unix:path=" + busSocket
)

// stopBus stops dbus-daemon: whoever connects is not answered. The returned
// function lets it go on, at the latest the test's end does.
func stopBus(t *testing.T) (resume func()) {
	t.Helper()
	pid, err := strconv.Atoi(systemctl(t, "show", "--property=MainPID", "--value", "dbus.service"))
	if err != nil || pid == 0 {
		t.Fatalf("dbus-daemon is process %d: %v", pid, err)
	}
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatalf("stop dbus-daemon: %v", err)
	}
	resume = sync.OnceFunc(func() {
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Errorf("let dbus-daemon go on: %v", err)
		}
	})
	t.Cleanup(resume)
	return resume
}

// stopManager stops systemd itself, process 1. It ignores SIGSTOP, but not a
// debugger.
func stopManager(t *testing.T) (resume func()) {
	t.Helper()
	stopped, release, released := make(chan error, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		// The kernel knows the debugger by its thread.
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		stopped <- interrupt(1)
		<-release
		released <- unix.PtraceDetach(1)
	}()
	resume = sync.OnceFunc(func() {
		close(release)
		if err := <-released; err != nil {
			t.Errorf("let systemd go on: %v", err)
		}
	})
	t.Cleanup(resume)
	if err := <-stopped; err != nil {
		t.Fatalf("stop systemd: %v", err)
	}
	return resume
}

func interrupt(pid int) error {
	if err := unix.PtraceSeize(pid); err != nil {
		return err
	}
	if err := unix.PtraceInterrupt(pid); err != nil {
		return err
	}
	for {
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != unix.EINTR {
			return err
		}
	}
}

// busProxy stands before the system bus and can lose what the bus says.
type busProxy struct {
	t        *testing.T
	listener net.Listener

	mu      sync.Mutex
	trigger []byte // guarded by mu; nil is none
	mute    bool   // guarded by mu
	loud    *sync.Cond
	lost    chan struct{} // closed when the trigger was seen
}

// newBusProxy listens at a path until the test's end.
func newBusProxy(t *testing.T, path string) *busProxy {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p := &busProxy{t: t, listener: l}
	p.loud = sync.NewCond(&p.mu)
	t.Cleanup(func() {
		l.Close()
		p.resume()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go p.serve(c.(*net.UnixConn))
		}
	}()
	return p
}

// muteAfter has the bus heard no more, on any connection, once a client has
// called a method: the bus still gets that call. The channel tells when.
func (p *busProxy) muteAfter(method string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trigger, p.lost = []byte(method), make(chan struct{})
	return p.lost
}

// resume has the bus heard again, with all that it said meanwhile.
func (p *busProxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trigger, p.mute = nil, false
	p.loud.Broadcast()
}

// sent looks for the trigger in what a client sends.
func (p *busProxy) sent(data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trigger != nil && bytes.Contains(data, p.trigger) {
		p.mute, p.trigger = true, nil
		close(p.lost)
	}
}

func (p *busProxy) awaitLoud() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.mute {
		p.loud.Wait()
	}
}

func (p *busProxy) serve(client *net.UnixConn) {
	defer client.Close()
	c, err := net.Dial("unix", busSocket)
	if err != nil {
		p.t.Errorf("connect to the bus: %v", err)
		return
	}
	bus := c.(*net.UnixConn)
	defer bus.Close()
	go func() {
		p.copy(client, bus, func([]byte) { p.awaitLoud() })
		_ = client.CloseWrite() // the client may have gone
	}()
	p.copy(bus, client, p.sent)
}

// copy copies until either side has gone, and has each piece looked at before.
func (p *busProxy) copy(to io.Writer, from io.Reader, look func([]byte)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			look(buf[:n])
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, os.ErrClosed) {
				p.t.Errorf("the proxy of the bus: %v", err)
			}
			return
		}
	}
}
