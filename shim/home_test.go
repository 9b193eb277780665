// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quoin-io/quoin/shim/program"
)

func TestScopeName(t *testing.T) {
	for _, id := range []string{"plain-1.2_3", "über/ein @x", strings.Repeat("long", 100), ""} {
		name := scopeName(id)
		if len(name) > 255 || !strings.HasPrefix(name, "quoin-shim-") || !strings.HasSuffix(name, ".scope") {
			t.Errorf("%q: %q is no name of a scope", id, name)
		}
		if strings.ContainsAny(name, "/ @ü") {
			t.Errorf("%q: %q has characters that systemd refuses", id, name)
		}
	}
}

// testHome is one whose systemd is a script.
func testHome(t *testing.T, script string) (*home, *busctl) {
	t.Helper()
	b := newBusctl(t, script)
	t.Setenv(sliceEnv, "system.slice")
	t.Setenv(cgroupEnv, "")
	h := newHome("c", program.Children{}, 10*time.Second)
	return h, b
}

// An attempt that fails is everybody's who waits for it; the next who comes makes
// another.
func TestHomeTriesAgain(t *testing.T) {
	h, b := testHome(t, "exit 1")
	for i := range 2 {
		err := h.await(t.Context())
		if err == nil || !strings.Contains(err.Error(), "ask systemd to start quoin-shim-c-") {
			t.Errorf("%v", err)
		}
		if n := b.count("StartTransientUnit"); n != i+1 {
			t.Errorf("asked %d times after %d attempts", n, i+1)
		}
	}
}

// What systemd promises and does not do is an error, in bounded time.
func TestHomeNeverMoved(t *testing.T) {
	h, _ := testHome(t, "exit 0")
	h.systemd.limit = 100 * time.Millisecond
	err := h.await(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not finish it") {
		t.Errorf("%v", err)
	}
}

// Whoever cannot wait longer leaves, and the attempt goes on.
func TestHomeCallerLeaves(t *testing.T) {
	h, b := testHome(t, `case "$*" in *StartTransientUnit*) hang;; esac; exit 1`)
	h.systemd.limit = time.Minute
	m := h.begin()
	eventually(t, "systemd is asked", func() bool { return b.count("StartTransientUnit") > 0 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, err := range map[string]error{"await": h.await(ctx), "rest": h.rest(ctx)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	select {
	case <-m.done:
		t.Error("the attempt has ended with its caller")
	default:
	}
	if h.begin() != m {
		t.Error("another attempt is made beside")
	}
	b.release()
	if err := h.rest(t.Context()); err != nil || !m.failed() {
		t.Errorf("after the attempt: %v", err)
	}
}

// Where there is nothing to ask, the shim serves from where it is.
func TestHomeWithoutBus(t *testing.T) {
	h, _ := testHome(t, "exit 1")
	t.Setenv("PATH", t.TempDir())
	if err := h.await(t.Context()); err != nil {
		t.Errorf("no busctl: %v", err)
	}
	h = &home{}
	if err := h.await(t.Context()); err != nil {
		t.Errorf("nowhere to go: %v", err)
	}
}
