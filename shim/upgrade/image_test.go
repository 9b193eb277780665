// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const patience = 20 * time.Second

// pair is a connected pair of sockets, as a client and a server have.
func pair(t testing.TB) (client, server *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = c.Close() })
	}
	return conns[0], conns[1]
}

// image is a server as one image of the shim has it: it serves one connection.
// Wait blocks until its image is told how it ends; Echo answers at once.
type image struct {
	server *ttrpc.Server
	end    chan string
	asked  chan struct{} // a Wait has begun
}

const testService = "test.Service"

// one is a listener with one connection.
type one struct {
	conn chan net.Conn
	done chan struct{}
	once sync.Once
}

func (o *one) Accept() (net.Conn, error) {
	select {
	case c := <-o.conn:
		return c, nil
	case <-o.done:
		return nil, net.ErrClosed
	}
}
func (o *one) Close() error   { o.once.Do(func() { close(o.done) }); return nil }
func (o *one) Addr() net.Addr { return &net.UnixAddr{} }

func serve(t testing.TB, conn net.Conn) *image {
	t.Helper()
	i := &image{end: make(chan string), asked: make(chan struct{}, 100)}
	var err error
	if i.server, err = ttrpc.NewServer(); err != nil {
		t.Fatal(err)
	}
	i.server.RegisterService(testService, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"Echo": func(_ context.Context, unmarshal func(any) error) (any, error) {
			var v wrapperspb.StringValue
			err := unmarshal(&v)
			return &v, err
		},
		"Wait": func(ctx context.Context, unmarshal func(any) error) (any, error) {
			var v wrapperspb.StringValue
			if err := unmarshal(&v); err != nil {
				return nil, err
			}
			i.asked <- struct{}{}
			select {
			case end := <-i.end:
				return wrapperspb.String(v.Value + " " + end), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}})
	l := &one{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conn <- conn
	served := make(chan error, 1)
	go func() { served <- i.server.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		_ = i.server.Close()
		if err := <-served; !errors.Is(err, ttrpc.ErrServerClosed) {
			t.Error(err)
		}
	})
	return i
}

func isWait(method string) bool { return method == "/"+testService+"/Wait" }

func call(ctx context.Context, c *ttrpc.Client, method, say string) (string, error) {
	var answer wrapperspb.StringValue
	err := c.Call(ctx, testService, method, wrapperspb.String(say), &answer)
	return answer.Value, err
}

// served is a connection that an image serves, by both its ends.
func served(t testing.TB) (client *ttrpc.Client, server *net.UnixConn, conn *Conn, i *image) {
	t.Helper()
	raw, server := pair(t)
	client = ttrpc.NewClient(raw)
	t.Cleanup(func() { _ = client.Close() })
	conn = NewConn(server, nil)
	return client, server, conn, serve(t, conn)
}

// ask calls and tells what is answered, and the error, when it comes.
func ask(t testing.TB, c *ttrpc.Client, method, say string) <-chan string {
	answer := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		got, err := call(ctx, c, method, say)
		answer <- fmt.Sprint(got, err)
	}()
	return answer
}

// park brings a connection to where it can change hands.
func park(t testing.TB, c *Conn) ConnState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.Hold()
	if err := c.Settle(ctx, isWait); err != nil {
		t.Fatal(err)
	}
	if err := c.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	s, ok := c.State("")
	if !ok {
		t.Fatal("it is closed")
	}
	return s
}

// next makes another connection of the same socket, as the next image gets it.
func next(t testing.TB, c *net.UnixConn) net.Conn {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func requestFrame(stream uint32, service, method, say string) []byte {
	inner := append([]byte{0x0a, byte(len(say))}, say...)
	var m []byte
	for field, value := range []string{1: service, 2: method, 3: string(inner)} {
		if value != "" {
			m = append(m, byte(field<<3|2), byte(len(value)))
			m = append(m, value...)
		}
	}
	b := make([]byte, frameHeader)
	binary.BigEndian.PutUint32(b, uint32(len(m)))
	binary.BigEndian.PutUint32(b[4:], stream)
	b[8] = typeRequest
	return append(b, m...)
}
