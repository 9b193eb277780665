// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
)

// pass is a handshake with everybody.
var pass ttrpc.Handshaker = handshaker(func(_ context.Context, conn net.Conn) (net.Conn, any, error) { return conn, nil, nil })

func TestConnections(t *testing.T) {
	var c connections
	c.wait(t.Context()) // there is none
	shake := c.handshake(pass)
	var open []net.Conn
	for range 3 {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		conn, _, err := shake.Handshake(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
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
	var c connections
	refuse := handshaker(func(context.Context, net.Conn) (net.Conn, any, error) { return nil, nil, errors.New("no") })
	if _, _, err := c.handshake(refuse).Handshake(t.Context(), nil); err == nil {
		t.Error("it was accepted")
	}
	c.wait(t.Context())
}

func TestLonelyOnlyWithoutConnections(t *testing.T) {
	var c connections
	shake := c.handshake(pass)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	conn, _, err := shake.Handshake(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan int, 8)
	c.watch(time.Millisecond, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		calls <- c.open
	})
	_ = conn.Close()
	for range 2 { // it is called again as long as nobody comes
		if open := <-calls; open != 0 {
			t.Fatalf("called with %d connections", open)
		}
	}
	ours, theirs = net.Pipe()
	defer theirs.Close()
	if _, _, err := shake.Handshake(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	running := c.alone.Stop()
	c.mu.Unlock()
	if running {
		t.Error("the timer runs although a client is connected")
	}
}
