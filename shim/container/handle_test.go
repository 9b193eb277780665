// SPDX-License-Identifier: Apache-2.0

package container

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/reaper"
	"github.com/quoin-io/quoin/shim/stdio"
)

// TestHandleBeforeStreams: what is asked for before there are streams, or a
// process, is kept or refused, and nothing is there after the release.
func TestHandleBeforeStreams(t *testing.T) {
	h := newHandle(Streams{}, nil)
	if err := h.resize(80, 25); err != nil {
		t.Error(err)
	}
	if err := h.closeStdin(); err != nil {
		t.Error(err)
	}
	if err := h.signal(unix.SIGTERM); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("signal: %v", err)
	}
	if h.detach() != nil {
		t.Error("streams out of nothing")
	}
	io, err := stdio.Open(t.Context(), Streams{}, stdio.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer io.Close()
	if err := h.attach(io); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("streams for what has been released: %v", err)
	}
	if h.attached() != nil {
		t.Error("they were taken")
	}
}

// TestAnnounceOnce: the first word counts, and nobody may be there to hear it.
func TestAnnounceOnce(t *testing.T) {
	var none *handle
	none.announce(reaper.Exit{})
	h := newHandle(Streams{}, nil)
	h.announce(reaper.Exit{Status: 1})
	h.announce(reaper.Exit{Status: 2})
	<-h.done
	if h.exit.Status != 1 {
		t.Errorf("%+v", h.exit)
	}
}

// TestHurryAndStart: a start is given up, whichever of the two comes first.
func TestHurryAndStart(t *testing.T) {
	for name, steps := range map[string]func(h *handle, giveUp func()) (done func()){
		"start first": func(h *handle, giveUp func()) func() {
			done := h.starting(giveUp)
			h.hurry(time.Millisecond)
			return done
		},
		"hurry first": func(h *handle, giveUp func()) func() {
			h.hurry(time.Millisecond)
			return h.starting(giveUp)
		},
	} {
		givenUp := make(chan struct{})
		done := steps(newHandle(Streams{}, nil), func() { close(givenUp) })
		select {
		case <-givenUp:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: it is not given up", name)
		}
		done()
	}
}
