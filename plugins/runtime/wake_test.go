// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
)

// TestWakeGivesUp: the sockets of shims that do not answer are removed, in one
// limit for all, and nothing else is.
func TestWakeGivesUp(t *testing.T) {
	state, err := os.MkdirTemp("", "q") // short, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	place := func(id string) string {
		bundle := filepath.Join(state, "io.containerd.runtime.v2.task", "ns", id)
		if err := os.MkdirAll(bundle, 0o700); err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(state, id)
		if err := os.WriteFile(filepath.Join(bundle, "address"), []byte("unix://"+socket), 0o600); err != nil {
			t.Fatal(err)
		}
		return socket
	}
	listen := func(id string) (net.Listener, string) {
		socket := place(id)
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l, socket
	}

	l, healthy := listen("healthy") // of another project
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	file := place("file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := wake(t.Context(), state, time.Second, time.Second); n != 0 {
		t.Fatalf("%d were given up though none hangs", n)
	}

	var stuck []string
	for i := range 20 {
		_, socket := listen(fmt.Sprint("stuck", i))
		stuck = append(stuck, socket)
	}
	begun := time.Now()
	if n := wake(t.Context(), state, 100*time.Millisecond, 200*time.Millisecond); n != len(stuck) {
		t.Errorf("%d were given up, want %d", n, len(stuck))
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, socket := range stuck {
		if _, err := os.Lstat(socket); !os.IsNotExist(err) {
			t.Errorf("%s: %v", socket, err)
		}
	}
	for _, path := range []string{healthy, file} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	if err := removeSocket("unix://" + file); err == nil {
		t.Error("a file was removed")
	}
	if n := wake(t.Context(), filepath.Join(state, "none"), time.Second, time.Second); n != 0 {
		t.Errorf("%d were given up where nothing ever ran", n)
	}
}
