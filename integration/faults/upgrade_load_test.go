// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/typeurl/v2"

	"github.com/quoin-io/quoin/integration/harness"
)

// loadShims is how many shims are upgraded under load.
const loadShims = 50

// loaded is a container whose shim is upgraded while everything is in use: a client
// holds its terminal, and waits for it; an exec streams, and is waited for.
type loaded struct {
	id       string
	running  *harness.Running
	keys     *io.PipeWriter // of its terminal
	terminal *sequence
	exec     containerd.Process
	execExit <-chan containerd.ExitStatus
	stream   *sequence
	born     string // of its init
}

// loadedCode is the exit code of the n-th one.
func loadedCode(n int) uint32 { return uint32(20 + n) }

// execCode is what a loaded exec ends with.
const execCode = 64

// load starts the n-th one. Every tenth prints as fast as it is read.
func load(t *testing.T, d *harness.Daemon, n int) *loaded {
	t.Helper()
	pause := "0.1"
	if n%10 == 0 {
		pause = ""
	}
	l := &loaded{id: fmt.Sprintf("loaded-%d", n), terminal: &sequence{}, stream: &sequence{}}
	keysR, keysW := io.Pipe()
	l.keys = keysW
	t.Cleanup(func() { _ = keysW.Close() })
	// What is typed ends it: that shows that the input still arrives.
	script := fmt.Sprintf("stty -echo; (%s) & read code; exit $code", counting(pause))
	l.running = d.Run(t, l.id, harness.Container{
		Args: []string{"sh", "-c", script},
		Spec: []oci.SpecOpts{oci.WithTTY},
		IO:   cio.NewCreator(cio.WithStreams(keysR, l.terminal, nil), cio.WithTerminal),
	})
	ctx := d.Context(t, "")
	process := l.running.Process(t, "sh", "-c", fmt.Sprintf("trap 'exit %d' TERM; %s", execCode, counting(pause)))
	var err error
	l.exec, err = l.running.Task.Exec(ctx, "stream", process, cio.NewCreator(cio.WithStreams(nil, l.stream, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if l.execExit, err = l.exec.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.exec.Start(ctx); err != nil {
		t.Fatal(err)
	}
	l.flows(t)
	l.born = bornAt(t, int(l.running.Task.Pid()))
	return l
}

func (l *loaded) flows(t *testing.T) {
	t.Helper()
	l.terminal.flows(t, "the terminal of "+l.id)
	l.stream.flows(t, "the exec of "+l.id)
}

// end ends the exec and then the container, and checks what is told of both.
func (l *loaded) end(t *testing.T, d *harness.Daemon, n int) {
	t.Helper()
	ctx := d.Context(t, "")
	if err := l.exec.Kill(ctx, syscall.SIGTERM); err != nil {
		t.Errorf("%s: %v", l.id, err)
		return
	}
	if code := harness.AwaitExit(t, l.id+"'s exec", l.execExit).ExitCode(); code != execCode {
		t.Errorf("%s: its exec ended with %d", l.id, code)
	}
	if _, err := l.exec.Delete(ctx); err != nil {
		t.Errorf("%s: %v", l.id, err)
	}
	if _, err := fmt.Fprintln(l.keys, loadedCode(n)); err != nil {
		t.Errorf("%s: %v", l.id, err)
		return
	}
	if code := l.running.AwaitExit(t).ExitCode(); code != loadedCode(n) {
		t.Errorf("%s ended with %d, want %d", l.id, code, loadedCode(n))
	}
	l.terminal.count(t, "the terminal of "+l.id)
	l.stream.count(t, "the exec of "+l.id)
	l.running.Delete(t)
}

// TestUpgradeUnderLoad: 50 shims are upgraded three times in a row, to a later
// release, to an earlier one and to where they began, while a client holds the terminal
// of each container, an exec streams, and both are waited for. No byte is lost, no
// process is another, every exit code is right and told once, nothing piles up in the
// shims, and the daemon notices nothing.
func TestUpgradeUnderLoad(t *testing.T) {
	harness.OnBoth(t, "load", func(t *testing.T, d *harness.Daemon) {
		next, older := built(t, nextShim), built(t, olderShim)
		d.Busybox(t)
		exits := countExits(t, d)
		all := make([]*loaded, loadShims)
		each(t, func(n int) { all[n] = load(t, d, n) })
		before := shimsSeen(t, d)
		if len(before) != loadShims {
			t.Fatalf("%d shims", len(before))
		}
		for _, to := range []struct{ path, version string }{{next, "9.9.9"}, {older, "0.0.9"}, {harness.Shim.Path(), before["loaded-0"].Version}} {
			r := upgradeShims(t, d, to.path, "--all")
			if r.Code != 0 || !strings.HasSuffix(r.Stdout, fmt.Sprintf("\n%d upgraded, 0 failed, 0 skipped\n", loadShims)) {
				t.Fatalf("%+v", r)
			}
			for id, seen := range shimsSeen(t, d) {
				if seen.Status != "ok" || seen.Version != to.version || seen.PID != before[id].PID {
					t.Errorf("%s: %+v, was process %d", id, seen, before[id].PID)
				}
			}
			each(t, func(n int) { all[n].flows(t) })
		}
		for n, l := range all {
			if born := bornAt(t, int(l.running.Task.Pid())); born != l.born {
				t.Errorf("container %d is another process", n)
			}
		}
		// What they held before may have had a connection to the daemon, for events.
		harness.Eventually(t, "the shims hold no more than they held", func() string {
			for id, seen := range shimsSeen(t, d) {
				if seen.OpenFiles > before[id].OpenFiles {
					return fmt.Sprintf("%s: %d descriptors, were %d", id, seen.OpenFiles, before[id].OpenFiles)
				}
			}
			return ""
		})
		memory(t, before, shimsSeen(t, d))
		for _, trace := range []string{"shim disconnected", "cleaning up after shim", "ttrpc: closed"} {
			if strings.Contains(d.LogTail(1<<20), trace) {
				t.Errorf("the daemon noticed: its log has %q", trace)
			}
		}
		each(t, func(n int) { all[n].end(t, d, n) })
		exits.check(t, 2*loadShims)
	})
}

// each does something for all, some at a time.
func each(t *testing.T, do func(n int)) {
	t.Helper()
	const parallel = 8
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for n := range loadShims {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(n)
		})
	}
	wg.Wait()
	if t.Failed() { // in a goroutine, which FailNow ends alone
		t.FailNow()
	}
}

// memory of shims that were upgraded is no more than it was, on average: an image
// begins with a heap of its own.
func memory(t *testing.T, before, after map[string]shimSeen) {
	t.Helper()
	const slack = 256 << 10
	var was, is uint64
	for id, seen := range after {
		was += before[id].Memory.Private / loadShims
		is += seen.Memory.Private / loadShims
	}
	t.Logf("private memory of a shim: %d KiB before, %d KiB after three upgrades", was>>10, is>>10)
	if is > was+slack {
		t.Errorf("%d bytes of private memory, were %d", is, was)
	}
}

// exitCount counts what the daemon's subscribers are told of exits.
type exitCount struct {
	mu   sync.Mutex
	seen map[string]int
	err  error
}

// countExits subscribes until the test ends.
func countExits(t *testing.T, d *harness.Daemon) *exitCount {
	t.Helper()
	c := &exitCount{seen: map[string]int{}}
	envelopes, failures := d.Client().EventService().Subscribe(d.Context(t, ""), `topic=="/tasks/exit"`)
	go func() {
		for {
			select {
			case e := <-envelopes:
				v, err := typeurl.UnmarshalAny(e.Event)
				c.mu.Lock()
				if exit, ok := v.(*events.TaskExit); ok {
					c.seen[fmt.Sprintf("%s/%s: %d", exit.ContainerID, exit.ID, exit.ExitStatus)]++
				} else if c.err == nil {
					c.err = fmt.Errorf("%T: %w", v, err)
				}
				c.mu.Unlock()
			case err := <-failures: // also when the test has ended
				c.mu.Lock()
				c.err = errors.Join(errors.New("the events ended"), c.err, err)
				c.mu.Unlock()
				return
			}
		}
	}()
	return c
}

// check wants so many exits, each told once.
func (c *exitCount) check(t *testing.T, want int) {
	t.Helper()
	harness.Eventually(t, "all exits are told", func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.seen) < want {
			return fmt.Sprintf("%d of %d; %v", len(c.seen), want, c.err)
		}
		return ""
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) != want || c.err != nil {
		t.Errorf("%d exits, want %d; %v", len(c.seen), want, c.err)
	}
	for exit, n := range c.seen {
		if n != 1 {
			t.Errorf("%s is told %d times", exit, n)
		}
	}
}
