// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"testing"

	"github.com/containerd/errdefs"
)

// TestSealAbandoned: a set is abandoned once every container has ended and lost its
// bundle, and takes no further one then.
func TestSealAbandoned(t *testing.T) {
	b := newBed(t)
	lose := func(c *Container) {
		t.Helper()
		if err := os.RemoveAll(c.Bundle()); err != nil {
			t.Fatal(err)
		}
	}
	not := func(when string) {
		t.Helper()
		if b.set.SealAbandoned() {
			t.Fatal("abandoned " + when)
		}
	}
	one, two := b.running("one", "true"), b.running("two", "sleep", "1000")
	b.wait(one, "")
	not("with all bundles")
	lose(one)
	not("with one that runs")
	lose(two)
	not("with one that runs without a bundle")
	if err := two.Kill(t.Context(), "", 9, false); err != nil {
		t.Fatal(err)
	}
	b.wait(two, "")
	eventually(t, "it has ended and is abandoned", b.set.SealAbandoned)
	if _, _, err := b.set.Create(t.Context(), b.config("three", "true")); !errdefs.IsUnavailable(err) {
		t.Errorf("another container: %v", err)
	}
	if !b.set.SealAbandoned() {
		t.Error("not abandoned any more")
	}
}

// TestSealEnded: a set has ended with its last process, once nobody waits for output
// any more; an exec that was never started is none.
func TestSealEnded(t *testing.T) {
	b := newBed(t)
	not := func(when string) {
		t.Helper()
		if b.set.SealEnded() {
			t.Fatal("ended " + when)
		}
	}
	one, two := b.running("one", "sleep", "1000"), b.running("two", "sleep", "1000")
	b.add(one, "never", "true")
	b.exec(two, "e", "sleep", "1000")
	kill := func(c *Container, exec string) {
		t.Helper()
		if err := c.Kill(t.Context(), exec, 9, false); err != nil {
			t.Fatal(err)
		}
		b.wait(c, exec)
	}
	not("with all")
	kill(one, "")
	not("with one that runs")
	kill(two, "e")
	not("with one that runs without its exec")
	kill(two, "")
	eventually(t, "they have ended", b.set.SealEnded)
	if _, _, err := b.set.Create(t.Context(), b.config("three", "true")); !errdefs.IsUnavailable(err) {
		t.Errorf("another container: %v", err)
	}
}
