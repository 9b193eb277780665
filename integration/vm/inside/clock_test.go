// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"
)

// TestClockJumps: the machine's clock is set, far forward and far back, as NTP does
// after a boot. No wait ends for it and no deadline passes: what runs goes on, is run
// something in, and its exit has the new clock's time. A namespace of time has no
// clock of its own for this, so it takes a machine.
func TestClockJumps(t *testing.T) {
	logOnFailure(t)
	restoreClock(t)
	for _, jump := range []struct {
		name string
		by   time.Duration
	}{{"forward", 24 * time.Hour}, {"back", -48 * time.Hour}} {
		t.Run(jump.name, func(t *testing.T) {
			c := start(t, id(t, "c"), []string{"sleep", "1000"})
			setClock(t, time.Now().Add(jump.by))
			c.shell(t, "true")
			select {
			case status := <-c.exit:
				t.Fatalf("it has ended: %+v", status)
			default:
			}
			if err := c.task.Kill(inNamespace(t), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			var status containerd.ExitStatus
			select {
			case status = <-c.exit:
			case <-time.After(patience):
				t.Fatal("it has not exited")
			}
			if status.ExitCode() != 137 || time.Since(status.ExitTime().Round(0)).Abs() > patience {
				t.Errorf("exit code %d at %v, and now it is %v", status.ExitCode(), status.ExitTime(), time.Now())
			}
			next := start(t, id(t, "next"), []string{"sleep", "1000"})
			if code := next.kill(t); code != 137 {
				t.Errorf("the next one ends with %d", code)
			}
		})
	}
}

func setClock(t *testing.T, to time.Time) {
	t.Helper()
	ts := unix.NsecToTimespec(to.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		t.Fatalf("set the clock: %v", err)
	}
}

// restoreClock sets the clock right at the test's end.
func restoreClock(t *testing.T) {
	t.Helper()
	before := time.Now() // with a reading of the monotonic clock
	wall := before.Round(0)
	t.Cleanup(func() { setClock(t, wall.Add(time.Since(before))) })
}
