// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/container"
	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/events"
	"github.com/quoin-io/quoin/shim/stdio"
	"github.com/quoin-io/quoin/shim/upgrade"
)

var rewriteStates = flag.Bool("rewrite-states", false, "write the states of testdata anew: for a new version of the format only")

// fullState has something in every field.
func fullState(t testing.TB) state {
	t.Helper()
	var cg *cgroup.Cgroup
	if err := json.Unmarshal([]byte(`{"mode":"hybrid","unified":"/u","legacy":[{"controller":"pids","dir":"/p","top":true}],"top":true}`), &cg); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	exit := &container.SavedExit{Status: 137, At: at, Signal: 9, Unknown: true}
	flow := stdio.FlowState{Pending: []byte("p"), Taken: 1, Delivered: 2, Dropped: 3, Empties: 4, SourceEnded: true, Failed: true, GivenUp: true, Exited: true, Cut: true, Ended: true}
	process := container.SavedProcess{
		Phase: "stopped", Restore: true, PID: 4, Exit: exit, Seen: exit, Ending: true, Hurried: true, Overdue: true,
		Streams: container.SavedStreams{Stdin: "i", Stdout: "o", Stderr: "e", Terminal: true}, Spec: []byte("{}"),
		Process: &container.SavedPidfd{PID: 4, FD: 10}, Released: true, StdinEnded: true, Size: &[2]uint16{1, 2},
		IO: &stdio.State{
			ID: "c", Phase: "started", Stdin: "i", Stdout: "o", Stderr: "e", Terminal: true, StdinClosed: true, ConsoleDir: "d",
			Descriptors: []stdio.DescriptorState{{Slot: "stdinSource", FD: 11, Device: 1, Inode: 2, Flags: 3}},
			Input:       &stdio.InputState{FIFO: true, FlowState: flow},
			Outputs:     []stdio.OutputState{{Stream: "stdout", FIFO: true, Shared: true, Released: true, FlowState: flow}},
			Logger:      &stdio.LoggerState{PID: 5, Ended: true, Error: "e", Dropping: []string{"loggerStdout"}},
			Finish: &stdio.FinishState{Marks: []stdio.MarkState{{Stream: "stdout", Delivered: 1, Empties: 2}}, Bounded: true, DrainLeft: 1,
				Drained: true, LingerLeft: 2},
		},
	}
	exec := process
	exec.ID, exec.IO, exec.Process = "e", nil, &container.SavedPidfd{PID: 6, FD: 12}
	return state{
		PID: 1, Build: control.Build{Version: "1.2.3", Revision: "abc"}, Binary: "/bin/shim", Socket: "/run/s", Listener: 5, Log: 6, Talk: 7,
		Connections: []upgrade.ConnState{{FD: 8, Frames: [][]byte{{0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 'x'}}, Rest: []byte{0}, Due: []uint32{3}}},
		Events:      events.State{Spool: 9, Next: 2, Memory: []events.Kept{{Seq: 1, Class: 2, Envelope: []byte("e")}}},
		Containers: []container.Saved{{
			ID: "c", Bundle: "/b", KillOnExit: true, Paused: true, Init: process, Execs: []container.SavedProcess{exec},
			Made: container.SavedMade{
				Options: bundle.Options{NoPivotRoot: true, NoNewKeyring: true, ShimCgroup: "s", IoUID: 1, IoGID: 2, BinaryName: "runc", Root: "/r",
					SystemdCgroup: true, CriuImagePath: "/i", CriuWorkPath: "/w"},
				Systemd: true, Mounted: true, CgroupsPath: "/c", Cgroup: cg,
				Restore: &container.SavedRestore{ImagePath: "/i", ParentPath: "/p", WorkPath: "/w", PidFile: "/f", NoPivot: true},
			},
			OOM:       &cgroup.OOMState{Kills: 1, Told: true, Parent: "/p", ParentTold: 2, Base: 3},
			OOMKilled: true, KillAsked: true, LastStats: &container.SavedStats{TypeURL: "t", Value: []byte("v")}, OverdueIn: time.Second,
		}},
		Started: at, Totals: control.Totals{Counters: map[string]uint64{"a": 1}, Timeouts: map[string]uint64{"b": 2},
			Calls: map[string]control.Calls{"create": {Count: 3, Failed: 1, Time: 4}}},
	}
}

// TestStatesOfReleases: what a release has written is understood to the last field, and
// written in the same way where it is still written.
func TestStatesOfReleases(t *testing.T) {
	for _, version := range upgrade.Versions() {
		golden := filepath.Join("testdata", fmt.Sprintf("state-v%d.json", version))
		want, err := json.MarshalIndent(fullState(t).of(version), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if *rewriteStates {
			if err := os.WriteFile(golden, append(want, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		content, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		var got state
		d := json.NewDecoder(bytes.NewReader(content))
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Errorf("%s: %v", golden, err)
		}
		if err := got.check(); err != nil {
			t.Errorf("%s: %v", golden, err)
		}
		again, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(bytes.TrimSpace(content)), string(again)); diff != "" {
			t.Errorf("%s is understood as\n%s", golden, diff)
		}
		if diff := cmp.Diff(string(bytes.TrimSpace(content)), string(want)); diff != "" {
			t.Errorf("%s is no longer what is written: within a version fields are only added; then -rewrite-states:\n%s", golden, diff)
		}
	}
}

func TestContradictoryStates(t *testing.T) {
	for name, change := range map[string]func(*state){
		"pid":               func(s *state) { s.PID = 0 },
		"socket":            func(s *state) { s.Socket = "s" },
		"descriptor 0":      func(s *state) { s.Listener = 0 },
		"twice":             func(s *state) { s.Log = s.Listener },
		"frame":             func(s *state) { s.Connections[0].Frames[0] = []byte("half") },
		"id":                func(s *state) { s.Containers[0].ID = "../c" },
		"phase":             func(s *state) { s.Containers[0].Init.Phase = "levitating" },
		"under way":         func(s *state) { s.Containers[0].Init.Phase = "creating" },
		"no exit":           func(s *state) { s.Containers[0].Init.Exit = nil },
		"exit of a running": func(s *state) { s.Containers[0].Init.Phase = "running" },
		"init with an id":   func(s *state) { s.Containers[0].Init.ID = "e" },
		"exec without":      func(s *state) { s.Containers[0].Execs[0].ID = "" },
	} {
		s := fullState(t)
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		change(&s)
		if err := s.check(); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
