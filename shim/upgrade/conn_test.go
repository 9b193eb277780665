// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
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

// TestChangeOfHands: a client calls all the time while the connection goes from
// image to image. Each call is answered once and right; the waits that were asked
// first are answered by the last image.
func TestChangeOfHands(t *testing.T) {
	client, server := pair(t)
	conn := NewConn(server, nil)
	i := serve(t, conn)
	c := ttrpc.NewClient(client)
	defer c.Close()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const waits = 3
	ends := make(chan string, waits)
	for n := range waits {
		go func() {
			end, err := call(ctx, c, "Wait", fmt.Sprint(n))
			if err != nil {
				end = err.Error()
			}
			ends <- end
		}()
	}
	for range waits {
		<-i.asked
	}
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for n := range 4 {
		callers.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				// Of all sizes, so that frames are cut everywhere.
				say := fmt.Sprintf("%d-%d-%s", n, k, strings.Repeat("x", k*37%9000))
				if got, err := call(ctx, c, "Echo", say); err != nil || got != say {
					t.Errorf("call %d of %d: %.40q, %v", k, n, got, err)
					return
				}
			}
		})
	}
	for range 20 {
		s := park(t, conn)
		if len(s.Frames) < waits {
			t.Fatalf("%d frames are remembered", len(s.Frames))
		}
		raw := next(t, server)
		// The old image's server must not read or answer any more: it stays frozen.
		nextConn, err := Resume(raw, s, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, server = nextConn, raw.(*net.UnixConn)
		i = serve(t, conn)
		for range waits {
			<-i.asked
		}
	}
	close(stop)
	callers.Wait()
	for range waits {
		i.end <- "ended"
	}
	got := map[string]bool{}
	for range waits {
		got[<-ends] = true
	}
	for n := range waits {
		if !got[fmt.Sprintf("%d ended", n)] {
			t.Errorf("no end of wait %d: %v", n, got)
		}
	}
}

// TestThaw: an image that goes on itself has lost nothing either.
func TestThaw(t *testing.T) {
	client, server := pair(t)
	conn := NewConn(server, nil)
	i := serve(t, conn)
	c := ttrpc.NewClient(client)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	end := make(chan string, 1)
	go func() {
		got, err := call(ctx, c, "Wait", "w")
		end <- fmt.Sprint(got, err)
	}()
	<-i.asked
	for n := range 10 {
		park(t, conn)
		answered := make(chan string, 1)
		go func() {
			got, err := call(ctx, c, "Echo", fmt.Sprint(n))
			answered <- fmt.Sprint(got, err)
		}()
		select {
		case got := <-answered:
			t.Fatalf("answered while it was frozen: %s", got)
		default:
		}
		conn.Thaw()
		if got := <-answered; got != fmt.Sprintf("%d<nil>", n) {
			t.Fatal(got)
		}
	}
	i.end <- "e"
	if got := <-end; got != "w e<nil>" {
		t.Error(got)
	}
	if s := park(t, conn); len(s.Frames) != 0 {
		t.Errorf("%d frames are remembered of what was answered", len(s.Frames))
	}
}

// TestAnswerWhileFrozen: a wait that ends in the frozen image is answered by the
// next one alone.
func TestAnswerWhileFrozen(t *testing.T) {
	client, server := pair(t)
	conn := NewConn(server, nil)
	i := serve(t, conn)
	c := ttrpc.NewClient(client)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	end := make(chan string, 1)
	go func() {
		got, err := call(ctx, c, "Wait", "w")
		end <- fmt.Sprint(got, err)
	}()
	<-i.asked
	s := park(t, conn)
	i.end <- "old"
	raw := next(t, server)
	resumed, err := Resume(raw, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	j := serve(t, resumed)
	j.end <- "new"
	if got := <-end; got != "w new<nil>" {
		t.Error(got)
	}
}

// TestDue: what the change of hands itself answers is not handed to the server again.
func TestDue(t *testing.T) {
	client, server := pair(t)
	conn := NewConn(server, nil)
	i := serve(t, conn)
	c := ttrpc.NewClient(client)
	defer c.Close()
	end := make(chan string, 2)
	for _, say := range []string{"a", "b"} {
		go func() {
			got, err := call(t.Context(), c, "Wait", say)
			end <- fmt.Sprint(got, err)
		}()
	}
	<-i.asked
	<-i.asked
	park(t, conn)
	s, ok := conn.State("/" + testService + "/Wait")
	if !ok || len(s.Due) != 2 || len(s.Frames) != 0 {
		t.Fatalf("%+v, %v", s, ok)
	}
	resumed, err := Resume(next(t, server), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := proto.Marshal(wrapperspb.String("due"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := proto.Marshal(&ttrpc.Response{Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	if err := resumed.Answer(response); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := <-end; got != "due<nil>" {
			t.Error(got)
		}
	}
	serve(t, resumed)
	if got, err := call(t.Context(), c, "Echo", "on"); err != nil || got != "on" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestBusy: what the server has not answered is waited for, and named.
func TestBusy(t *testing.T) {
	client, server := pair(t)
	conn := NewConn(server, nil)
	i := serve(t, conn)
	c := ttrpc.NewClient(client)
	defer c.Close()
	go func() { _, _ = call(t.Context(), c, "Wait", "w") }()
	<-i.asked
	conn.Hold()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := conn.Settle(ctx, func(string) bool { return false })
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), testService+"/Wait") {
		t.Error(err)
	}
}

// TestPartialFrames: bytes of a frame that is still coming change hands too, at
// every place where it can be cut.
func TestPartialFrames(t *testing.T) {
	whole := requestFrame(1, testService, "Wait", "w")
	for cut := range len(whole) {
		client, server := pair(t)
		conn := NewConn(server, nil)
		serve(t, conn)
		if _, err := client.Write(whole[:cut]); err != nil {
			t.Fatal(err)
		}
		s := park(t, conn)
		raw := next(t, server)
		resumed, err := Resume(raw, s, nil)
		if err != nil {
			t.Fatal(err)
		}
		i := serve(t, resumed)
		if _, err := client.Write(whole[cut:]); err != nil {
			t.Fatal(err)
		}
		<-i.asked
		i.end <- "e"
		head := make([]byte, frameHeader)
		if _, err := io.ReadFull(client, head); err != nil {
			t.Fatal(err)
		}
		if h := parseHeader(head); h.stream != 1 || h.kind != typeResponse {
			t.Fatalf("cut at %d: answered %+v", cut, h)
		}
		if n := len(resumed.pendingStreams()); n > 1 {
			t.Errorf("%d requests are remembered", n)
		}
	}
}

func (c *Conn) pendingStreams() []uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []uint32
	for s := range c.pending {
		all = append(all, s)
	}
	return all
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

// TestOversized: a message that the server refuses passes unseen, and the answer
// to it is waited for.
func TestOversized(t *testing.T) {
	client, server := pair(t)
	conn := NewConn(server, nil)
	serve(t, conn)
	head := make([]byte, frameHeader)
	binary.BigEndian.PutUint32(head, maxFrame+1)
	binary.BigEndian.PutUint32(head[4:], 1)
	head[8] = typeRequest
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(append(head, make([]byte, maxFrame+1)...))
		sent <- err
	}()
	answer := make([]byte, frameHeader)
	if _, err := io.ReadFull(client, answer); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if h := parseHeader(answer); h.stream != 1 || h.kind != typeResponse {
		t.Fatalf("%+v", h)
	}
	if s := park(t, conn); len(s.Frames)+len(s.Rest) != 0 {
		t.Errorf("%+v is remembered", s)
	}
}

// TestClose: a client that hangs up while the connection is held is noticed after
// it, and a connection that is closed keeps nobody waiting.
func TestClose(t *testing.T) {
	client, server := pair(t)
	gone := make(chan struct{})
	conn := NewConn(server, func() { close(gone) })
	serve(t, conn)
	park(t, conn)
	_ = client.Close()
	conn.Thaw()
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatal("its end was not noticed")
	}
	if _, ok := conn.State(""); ok {
		t.Error("a closed connection has a state")
	}
	if err := conn.Freeze(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestResumeRefusesHalfFrames(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 9), {0, 0, 0, 5, 0, 0, 0, 1, 1, 0, 'x'}} {
		if _, err := Resume(nil, ConnState{Frames: [][]byte{b}}, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

// TestInherit: a descriptor is handed on by its number, once.
func TestInherit(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	undo, err := Inherit([]int{fd})
	if err != nil {
		t.Fatal(err)
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC != 0 {
		t.Error("it would be closed")
	}
	undo()
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("it would be inherited after all")
	}
	if _, err := Inherit([]int{1 << 20}); err == nil {
		t.Error("no descriptor was handed on")
	}
	got, err := Take([]int{fd})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := got.File(fd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.File(fd); !errdefs.IsInvalidArgument(err) {
		t.Errorf("twice: %v", err)
	}
	if err := errors.Join(got.Close(), taken.Close()); err != nil {
		t.Error(err)
	}
	_ = f.Close() // its descriptor was the taken one's
	for _, fds := range [][]int{{0}, {-1}, {1 << 20}} {
		if _, err := Take(fds); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", fds, err)
		}
	}
}

// FuzzConnState: whatever is said of a connection, it is refused or can be gone on with,
// and then nothing of it is lost.
func FuzzConnState(f *testing.F) {
	whole := requestFrame(1, testService, "Wait", "w")
	f.Add([]byte{}, []byte{})
	f.Add(whole, whole[:7])
	f.Add(whole, whole[:frameHeader+3])
	f.Add(whole[:5], []byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0}, []byte{})
	f.Fuzz(func(t *testing.T, frame, rest []byte) {
		c, err := Resume(nil, ConnState{Frames: [][]byte{frame}, Rest: rest}, nil)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("%v has no class", err)
			}
			return
		}
		var kept []byte
		for _, f := range c.queue {
			kept = append(kept, f.bytes...)
		}
		kept = append(kept, c.rest...)
		if h := parseHeader(frame); h.length <= maxFrame && !bytes.Equal(kept, append(bytes.Clone(frame), rest...)) {
			t.Fatalf("%x and %x became %x", frame, rest, kept)
		}
	})
}
