// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// TestStart: the reply, and the process that is left.
func TestStart(t *testing.T) {
	b := newBed(t)
	r := b.run(b.params(), "start")
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	var reply bootapi.BootstrapResult
	if err := proto.Unmarshal(r.stdout, &reply); err != nil {
		t.Fatal(err)
	}
	if reply.Version != 3 || reply.Protocol != "ttrpc" || !strings.HasPrefix(reply.Address, "unix://"+b.sockets+"/") {
		t.Errorf("%v", &reply)
	}
	if _, err := os.Stat(filepath.Join(b.bundle, "address")); !os.IsNotExist(err) {
		t.Errorf("an address file for a daemon that needs none: %v", err)
	}
	s := b.serving(reply.Address)
	if st, err := os.Stat(s.path()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	for fd := range 3 {
		if target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.pid, fd)); err != nil || target != "/dev/null" {
			t.Errorf("descriptor %d: %q, %v", fd, target, err)
		}
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.pid)); err != nil || cwd != b.bundle {
		t.Errorf("working directory: %q, %v", cwd, err)
	}
	own, theirs := oomScore(t, os.Getpid()), oomScore(t, s.pid)
	if theirs != min(own+1, 1000) {
		t.Errorf("oom_score_adj %d, the daemon's %d", theirs, own)
	}
	if pgid := statField(t, s.pid, 5); pgid != s.pid {
		t.Errorf("process group %d: signals to the daemon's hit it", pgid)
	}
}

func oomScore(t testing.TB, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// statField is a field of /proc/<pid>/stat, by its number in proc(5).
func statField(t testing.TB, pid, number int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	rest := string(data)[strings.LastIndexByte(string(data), ')')+1:]
	n, err := strconv.Atoi(strings.Fields(rest)[number-3])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLegacyStart: daemons of before 2.3 write the options, or nothing.
func TestLegacyStart(t *testing.T) {
	for name, stdin := range map[string]func(*bed) []byte{
		"nothing": func(*bed) []byte { return nil },
		"options": func(b *bed) []byte { return b.encode(b.options()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			r := b.run(stdin(b), "start")
			if r.code != 0 || r.stderr != "" {
				t.Fatalf("%+v", r)
			}
			address := string(r.stdout)
			if !strings.HasPrefix(address, "unix:///") || strings.ContainsAny(address, " \n{") {
				t.Errorf("%q", address)
			}
			if file, err := os.ReadFile(filepath.Join(b.bundle, "address")); err != nil || string(file) != address {
				t.Errorf("address file %q, %v", file, err)
			}
			b.serving(address)
		})
	}
}

// TestGroups: containers of a pod have one shim, others do not.
func TestGroups(t *testing.T) {
	for _, annotation := range []string{"io.kubernetes.cri.sandbox-id", "io.containerd.runc.v2.group"} {
		b := newBed(t)
		annotate(t, b.bundle, annotation, "pod")
		first := b.start()

		member := *b
		member.id, member.bundle = "d", filepath.Join(t.TempDir(), "d")
		if err := os.Rename(ocitest.Bundle(t, "true"), member.bundle); err != nil {
			t.Fatal(err)
		}
		annotate(t, member.bundle, annotation, "pod")
		if second := member.start(); second.address != first.address || second.pid != first.pid {
			t.Errorf("%s: %s and %s", annotation, first.address, second.address)
		}

		stranger := member
		stranger.id = "e"
		annotate(t, stranger.bundle, annotation, "another")
		if third := stranger.start(); third.pid == first.pid {
			t.Errorf("%s: another pod has the same shim", annotation)
		}
	}
}

func annotate(t testing.TB, bundle, key, value string) {
	t.Helper()
	ocitest.WriteConfig(t, bundle, map[string]any{
		"ociVersion":  "1.0.2",
		"process":     map[string]any{"args": []string{"true"}, "cwd": "/"},
		"annotations": map[string]string{key: value},
	})
}

// TestStartOverTheDead: the socket of a shim that was killed is in nobody's way.
func TestStartOverTheDead(t *testing.T) {
	b := newBed(t)
	first := b.start()
	first.signal(9)
	first.awaitEnd()
	if second := b.start(); second.address != first.address || second.pid == first.pid {
		t.Errorf("%s (%d) and %s (%d)", first.address, first.pid, second.address, second.pid)
	}
}

// TestBadStart: it says what is wrong on stderr, prints nothing that could be
// taken for an address, and leaves no socket.
func TestBadStart(t *testing.T) {
	long := "/tmp/" + strings.Repeat("long", 20)
	for name, tc := range map[string]struct {
		change func(*bed) []byte
		says   string
	}{
		"no spec": {func(b *bed) []byte {
			_ = os.Remove(filepath.Join(b.bundle, "config.json"))
			return b.params()
		}, "config.json"},
		"rubbish spec": {func(b *bed) []byte {
			_ = os.WriteFile(filepath.Join(b.bundle, "config.json"), []byte("]"), 0o600)
			return b.params()
		}, "malformed"},
		"rubbish": {func(b *bed) []byte { return []byte("\xff\xfe rubbish") }, "c"},
		"long socket directory": {func(b *bed) []byte {
			b.sockets = long
			return b.params()
		}, "set socket_dir in"},
		"relative socket directory": {func(b *bed) []byte {
			b.sockets = "here"
			return b.params()
		}, "not an absolute path"},
		"an id that is a path":       {func(b *bed) []byte { b.id = "../c"; return nil }, "id"},
		"a namespace that is a path": {func(b *bed) []byte { b.ns = "../n"; return nil }, "namespace"},
		"rubbish options": {func(b *bed) []byte {
			return b.encode(&anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: []byte("\xff")})
		}, "Options"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			dir := b.sockets
			stdin := tc.change(b)
			r := b.run(stdin, "start")
			if r.code != 1 || len(r.stdout) > 0 || !strings.Contains(r.stderr, tc.says) {
				t.Errorf("%+v", r)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}
