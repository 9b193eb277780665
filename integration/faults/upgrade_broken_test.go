// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quoin-io/quoin/integration/harness"
)

// program writes a file of root's that can be executed, or not.
func program(t *testing.T, content []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "containerd-shim-quoin-v1")
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// foreignELF is a program for another kind of processor.
func foreignELF(t *testing.T) []byte {
	t.Helper()
	content, err := os.ReadFile(harness.Shim.Path())
	if err != nil {
		t.Fatal(err)
	}
	const machineAt, aarch64 = 18, 183 // e_machine of elf(5)
	binary.LittleEndian.PutUint16(content[machineAt:], aarch64)
	return content
}

// TestUpgradeToBroken: a binary that cannot take over is found out before anything
// happens, whatever is wrong with it.
func TestUpgradeToBroken(t *testing.T) {
	harness.OnBoth(t, "broken", func(t *testing.T, d *harness.Daemon) {
		var s sequence
		r := d.Run(t, "streaming", harness.Container{Args: []string{"sh", "-c", "trap 'exit 7' TERM; " + counting("0.01")}, IO: streamTo(&s)})
		s.flows(t, "the output")
		before := shimsSeen(t, d)["streaming"]
		broken := map[string]struct{ path, says string }{
			"missing":        {"/no/such/shim", "does not exist"},
			"not executable": {program(t, []byte("x"), 0o644), "is not executable"},
			"no program":     {program(t, []byte("rubbish"), 0o755), "exec format error"},
			"other machine":  {program(t, foreignELF(t), 0o755), "exec format error"},
			"exits":          {"/bin/false", "exit status 1"},
			"another's":      {harness.StockShim.Path(), "cannot take over"},
			"hangs":          {built(t, hangingShim), "did not answer in time"},
			"too old":        {built(t, ancientShim), "this one writes 1, 2"},
		}
		for name, tc := range broken {
			res := upgradeShims(t, d, tc.path, "streaming")
			if res.Code != 1 || !strings.Contains(res.Stdout, tc.says) || !strings.HasSuffix(res.Stdout, "0 upgraded, 1 failed, 0 skipped\n") {
				t.Errorf("%s: %+v", name, res)
			}
			s.flows(t, "the output")
		}
		after := shimsSeen(t, d)["streaming"]
		if after.PID != before.PID || after.Version != before.Version || after.OpenFiles > before.OpenFiles ||
			after.Totals.Counters["upgrades_failed"] != uint64(len(broken)) {
			t.Errorf("%+v, was %+v", after, before)
		}
		mustUpgrade(t, d, built(t, nextShim), "streaming")
		s.flows(t, "the output")
		r.Signal(t, syscall.SIGTERM)
		if code := r.AwaitExit(t).ExitCode(); code != 7 {
			t.Errorf("exit code %d", code)
		}
		s.count(t, "the output")
		r.Delete(t)
	})
}

// TestUpgradeWhileBusy: a shim that does not come to rest says what it is doing, and
// nothing of that is harmed. The container next to it goes on meanwhile.
func TestUpgradeWhileBusy(t *testing.T) {
	harness.OnBoth(t, "busy", func(t *testing.T, d *harness.Daemon) {
		group := inPod("busy")
		var s sequence
		first := d.Run(t, "first", harness.Container{Args: []string{"sh", "-c", "trap 'exit 7' TERM; " + counting("0.01")}, IO: streamTo(&s), Spec: group})
		gates := newGatedRuntime(t)
		gates.close(t, "after-create")
		var second *harness.Running
		var created sync.WaitGroup
		created.Go(func() {
			second = d.Create(t, "second", harness.Container{Args: []string{"sh", "-c", "exit 8"}, Spec: group, Options: gates.options()})
		})
		gates.reached(t, "after-create")
		watch := harness.StartWatch(t)
		r := upgradeShims(t, d, built(t, nextShim), "first", "--rest", "1s")
		if r.Code != 1 || !strings.Contains(r.Stdout, "the shim is busy: a request /containerd.task.v3.Task/Create is not answered") {
			t.Errorf("%+v", r)
		}
		if took := watch.Took(); took > 20*time.Second {
			t.Errorf("it took %v to say so", took)
		}
		s.flows(t, "the first one's output")
		if err := os.WriteFile(filepath.Join(gates.dir, "after-create-open"), []byte("\n"), 0); err != nil {
			t.Fatal(err)
		}
		created.Wait()
		if t.Failed() { // in a goroutine
			t.FailNow()
		}
		mustUpgrade(t, d, built(t, nextShim), "first")
		if err := second.Task.Start(d.Context(t, "")); err != nil {
			t.Fatal(err)
		}
		first.Signal(t, syscall.SIGTERM)
		for r, code := range map[*harness.Running]uint32{first: 7, second: 8} {
			if got := r.AwaitExit(t).ExitCode(); got != code {
				t.Errorf("%s ended with %d, want %d", r.ID(), got, code)
			}
			r.Delete(t)
		}
	})
}

// TestUpgradeUnderTheCLI: who is attached with ctr or quoinctl notices nothing, not
// even by its terminal; and a daemon that is started again finds the shim as it is now.
func TestUpgradeUnderTheCLI(t *testing.T) {
	harness.OnBoth(t, "cli", func(t *testing.T, d *harness.Daemon) {
		d.Busybox(t)
		cmd := d.CLICommand(t, "run", "--rm", "--tty", "--runtime", d.Runtime, harness.BusyboxRef, "attached", "sh")
		term := harness.Open(t, cmd, 93, 31)
		term.Type(t, "echo an''swer\n")
		term.Output.Await(t, "answer")
		for n, to := range []string{built(t, nextShim), built(t, olderShim), harness.Shim.Path()} {
			mustUpgrade(t, d, to, "--all")
			word := string(rune('a' + n))
			term.Type(t, "echo "+word+"''fter\n")
			term.Output.Await(t, word+"fter")
		}
		term.Resize(t, 72, 23)
		term.Type(t, "stty size\n")
		term.Output.Await(t, "23 72")
		term.Type(t, "exit 5\n")
		if code := term.AwaitExit(t); code != 5 {
			t.Errorf("exit code %d, want 5", code)
		}
	})
}

// TestUpgradeAndRestart: a daemon that is started again finds a shim that was upgraded,
// and one whose old image went on in another process.
func TestUpgradeAndRestart(t *testing.T) {
	harness.OnBoth(t, "again", func(t *testing.T, d *harness.Daemon) {
		var all []*harness.Running
		for _, id := range []string{"upgraded", "guarded"} {
			all = append(all, d.Run(t, id, exitsOnTerm(9)))
		}
		for _, r := range all {
			r.Stdout.Await(t, "ready")
		}
		mustUpgrade(t, d, built(t, nextShim), "upgraded")
		if r := upgradeShims(t, d, built(t, crashingShim), "guarded"); r.Code != 1 {
			t.Errorf("%+v", r)
		}
		d.Kill(t)
		d.Restart(t)
		ctx := d.Context(t, "")
		for _, r := range all {
			task := d.Task(t, r.ID())
			exit, err := task.Wait(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := task.Kill(ctx, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := harness.AwaitExit(t, r.ID(), exit).ExitCode(); code != 9 {
				t.Errorf("%s ended with %d", r.ID(), code)
			}
			d.Remove(t, r.ID())
		}
	})
}
