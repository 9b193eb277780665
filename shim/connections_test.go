// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
)

// admission is a handshake by a function.
type admission func() error

func (a admission) Handshake(_ context.Context, conn net.Conn) (net.Conn, any, error) {
	return conn, nil, a()
}

var anybody ttrpc.Handshaker = admission(func() error { return nil })

// listening makes connections that clients can make, and a way to make one.
func listening(t *testing.T, admit ttrpc.Handshaker) (*connections, func() net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	c := newConnections(l, admit)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, func() net.Conn {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

// TestListenerBy: nothing but a listening Unix socket will do.
func TestListenerBy(t *testing.T) {
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	unixSocket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer unixSocket.Close()
	for says, open := range map[string]func() (*os.File, error){
		"":                       unixSocket.File,
		"not at a Unix socket":   tcp.File,
		"is no listening socket": func() (*os.File, error) { return os.Open("/dev/null") },
	} {
		f, err := open()
		if err != nil {
			t.Fatal(err)
		}
		l, err := listenerBy(f)
		_ = f.Close()
		switch {
		case says != "":
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), says) {
				t.Errorf("%q: %v", says, err)
			}
		case err != nil:
			t.Error(err)
		default:
			_ = l.Close()
		}
	}
}

func accept(t *testing.T, c *connections) net.Conn {
	t.Helper()
	conn, err := c.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestConnections(t *testing.T) {
	c, dial := listening(t, anybody)
	c.wait(t.Context()) // there is none
	var open []net.Conn
	for range 3 {
		dial()
		open = append(open, accept(t, c))
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	c.wait(over) // it ends with its caller
	waited := make(chan struct{}, 2)
	for range cap(waited) {
		go func() {
			c.wait(t.Context())
			waited <- struct{}{}
		}()
	}
	for _, conn := range open {
		select {
		case <-waited:
			t.Error("one is open still")
		default:
		}
		for range 2 { // ttrpc closes twice
			_ = conn.Close()
		}
	}
	for range cap(waited) {
		<-waited
	}
}

func TestRefusedConnectionIsNotCounted(t *testing.T) {
	refused := 0
	c, dial := listening(t, admission(func() error {
		if refused++; refused < 3 {
			return errors.New("no")
		}
		return nil
	}))
	for range 3 {
		dial()
	}
	accept(t, c)
	if n := len(c.all()); n != 1 || refused != 3 {
		t.Errorf("%d open after %d handshakes", n, refused)
	}
}

func TestLonelyOnlyWithoutConnections(t *testing.T) {
	c, dial := listening(t, anybody)
	dial()
	conn := accept(t, c)
	calls := make(chan int, 8)
	c.watch(time.Millisecond, func() { calls <- len(c.all()) })
	_ = conn.Close()
	for range 2 { // it is called again as long as nobody comes
		if open := <-calls; open != 0 {
			t.Fatalf("called with %d connections", open)
		}
	}
	dial()
	accept(t, c)
	c.mu.Lock()
	running := c.alone.Stop()
	c.mu.Unlock()
	if running {
		t.Error("the timer runs although a client is connected")
	}
}

// TestHeldConnections: who comes while connections are held is accepted after it, and
// a connection that was resumed comes first.
func TestHeldConnections(t *testing.T) {
	c, dial := listening(t, anybody)
	accepted := make(chan net.Conn, 4)
	go func() {
		for {
			conn, err := c.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial()
	<-accepted
	c.hold()
	dial()
	states, err := c.freeze(t.Context(), "")
	if err != nil || len(states) != 1 {
		t.Fatalf("%+v, %v", states, err)
	}
	select {
	case <-accepted:
		t.Fatal("accepted although connections are held")
	case <-time.After(20 * time.Millisecond): // it has had its chance
	}
	c.release()
	<-accepted

	other, _ := listening(t, anybody)
	file := func(fd int) (*os.File, error) { return c.all()[0].Conn.(*net.UnixConn).File() }
	if err := other.resume(states, file); err != nil {
		t.Fatal(err)
	}
	if conn := accept(t, other); conn != net.Conn(other.all()[0]) {
		t.Error("another connection")
	}
	file = func(int) (*os.File, error) { return os.Open("/dev/null") }
	if err := other.resume(states, file); err == nil {
		t.Error("/dev/null is a connection")
	}
	file = func(int) (*os.File, error) { return nil, errors.New("none") }
	if err := other.resume(states, file); err == nil {
		t.Error("nothing is a connection")
	}
}

func TestRequestsSettle(t *testing.T) {
	var r requests
	over, cancel := context.WithCancel(t.Context())
	cancel()
	handle := r.intercept(func(ctx context.Context, _ ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
		return method(ctx, nil)
	})
	wait := "/containerd.task.v3.Task/Wait"
	_, err := handle(t.Context(), nil, &ttrpc.UnaryServerInfo{FullMethod: wait}, func(context.Context, func(any) error) (any, error) {
		return nil, r.settle(over, mayWait) // it may
	})
	if err != nil {
		t.Error(err)
	}
	begun, end, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, _ = handle(t.Context(), nil, &ttrpc.UnaryServerInfo{FullMethod: "/containerd.task.v3.Task/Kill"}, func(context.Context, func(any) error) (any, error) {
			close(begun)
			<-end
			return nil, nil
		})
	}()
	<-begun
	if err := r.settle(over, mayWait); err == nil || fmt.Sprint(err) != "a request /containerd.task.v3.Task/Kill is under way: context canceled: unavailable" {
		t.Error(err)
	}
	close(end)
	if err := r.settle(t.Context(), mayWait); err != nil {
		t.Error(err)
	}
	<-done
}

func TestMayWait(t *testing.T) {
	for method, want := range map[string]bool{
		"/containerd.task.v3.Task/Wait": true, "/containerd.task.v2.Task/Wait": true, "/quoin.shim.v1.Control/Upgrade": true,
		"/containerd.task.v3.Task/Create": false, "/quoin.shim.v1.Control/Info": false, "": false,
	} {
		if mayWait(method) != want {
			t.Errorf("%q: %v", method, !want)
		}
	}
}
