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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestChangeOfHands: a client calls all the time while the connection goes from
// image to image. Each call is answered once and right; the waits that were asked
// first are answered by the last image.
func TestChangeOfHands(t *testing.T) {
	c, server, conn, i := served(t)

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
	c, _, conn, i := served(t)
	end := ask(t, c, "Wait", "w")
	<-i.asked
	for n := range 10 {
		park(t, conn)
		answered := ask(t, c, "Echo", fmt.Sprint(n))
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
	c, server, conn, i := served(t)
	end := ask(t, c, "Wait", "w")
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
	c, server, conn, i := served(t)
	ends := []<-chan string{ask(t, c, "Wait", "a"), ask(t, c, "Wait", "b")}
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
	for _, end := range ends {
		if got := <-end; got != "due<nil>" {
			t.Error(got)
		}
	}
	serve(t, resumed)
	if got, err := call(t.Context(), c, "Echo", "on"); err != nil || got != "on" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestDueAndUnread: a client that does not read its answer loses its connection, and
// holds up nobody.
func TestDueAndUnread(t *testing.T) {
	_, server := pair(t)
	if err := server.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := server.Write(make([]byte, 1<<16)); err != nil {
			break // it is full
		}
	}
	closed := false
	c, err := Resume(server, ConnState{Due: []uint32{1}}, func() { closed = true })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Answer([]byte("response")); !errors.Is(err, os.ErrDeadlineExceeded) || !closed {
		t.Errorf("%v, closed: %v", err, closed)
	}
}

// TestBusy: what the server has not answered is waited for, and named.
func TestBusy(t *testing.T) {
	c, _, conn, i := served(t)
	ask(t, c, "Wait", "w")
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

// TestOversized: a message that the server refuses passes unseen, and the answer
// to it is waited for.
func TestOversized(t *testing.T) {
	client, server := pair(t)
	conn := NewConn(server, nil)
	serve(t, conn)
	beRefused(t, client, oversizedFrame())
	if s := park(t, conn); len(s.Frames)+len(s.Rest) != 0 {
		t.Errorf("%+v is remembered", s)
	}
}

// TestHeldOversized: a connection on which an oversized message is coming cannot change
// hands, and loses nothing by the attempt.
func TestHeldOversized(t *testing.T) {
	client, server := pair(t)
	conn := NewConn(server, nil)
	serve(t, conn)
	if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	message := oversizedFrame()
	const half = maxFrame / 2
	if _, err := client.Write(message[:half]); err != nil {
		t.Fatal(err)
	}
	conn.Hold()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := conn.Settle(ctx, isWait); !errdefs.IsUnavailable(err) {
		t.Error(err)
	}
	conn.Thaw()
	beRefused(t, client, message[half:])
}

// beRefused sends a message, or what is left of it, and reads the server's answer.
func beRefused(t *testing.T, client io.ReadWriter, message []byte) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(message)
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
}

// oversizedFrame is a request that is longer than a server takes.
func oversizedFrame() []byte {
	b := make([]byte, frameHeader+maxFrame+1)
	binary.BigEndian.PutUint32(b, maxFrame+1)
	binary.BigEndian.PutUint32(b[4:], 1)
	b[8] = typeRequest
	return b
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
