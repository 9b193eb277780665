// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSettle: a descriptor that somebody else is about to close is closed once settle
// returns.
func TestSettle(t *testing.T) {
	r, w, err := newPipe("test", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if w, err = pollable(w); err != nil {
		t.Fatal(err)
	}
	var d descriptors
	if err := d.put(stdoutSink, w); err != nil {
		t.Fatal(err)
	}
	conn, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// A use of the file keeps it open under its Close.
	used, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := conn.Control(func(uintptr) { close(used); <-release }); err != nil {
			t.Error(err)
		}
	})
	<-used
	wg.Go(func() {
		if err := d.close(stdoutSink); err != nil {
			t.Error(err)
		}
	})
	for d.get(stdoutSink) != nil {
		runtime.Gosched()
	}
	if err := d.close(stdoutSink); err != nil { // there is nothing left to close
		t.Error(err)
	}
	if events, err := pollNow(r, unix.POLLIN); err != nil || events&unix.POLLHUP != 0 {
		t.Fatalf("the writer is gone already: %x, %v", events, err)
	}
	go close(release)
	d.settle()
	if events, err := pollNow(r, unix.POLLIN); err != nil || events&unix.POLLHUP == 0 {
		t.Errorf("the writer is there: %x, %v", events, err)
	}
	wg.Wait()
}
