// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"google.golang.org/protobuf/proto"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// TestSettingsAreRefused: a setting that is not understood fails the start, and the
// client of the container is told which and why.
func TestSettingsAreRefused(t *testing.T) {
	for env, says := range map[string]string{
		config.DeadlinesEnv + "=create=soon":  `the environment's QUOIN_DEADLINES: deadline create="soon" is no duration`,
		config.LoggerDirsEnv + "=libexec/log": `the environment's QUOIN_LOGGER_DIRS: directory of loggers "libexec/log" is not an absolute path`,
	} {
		b := newBed(t)
		b.env = []string{env}
		if r := b.run(b.params(), "start"); r.code != 1 || !strings.Contains(r.stderr, says) {
			t.Errorf("%s: %+v", env, r)
		}
	}
}

// TestDeadlinesOfTheEnvironment: a shim's deadlines are those that its daemon has.
func TestDeadlinesOfTheEnvironment(t *testing.T) {
	b := newBed(t)
	b.env = []string{config.DeadlinesEnv + "=create=600ms,terminate=100ms"}
	s := b.start()
	b.fake.Set("create", ocitest.Failpoint{Times: 1, Hang: true})
	begun := time.Now()
	_, err := s.Create(t.Context(), &task.CreateTaskRequest{ID: b.id, Bundle: b.bundle, Options: b.options()})
	if err == nil || !strings.Contains(err.Error(), "OCI runtime create did not finish within 600ms and was ended") {
		t.Errorf("%v", err)
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("it took %v", took)
	}
	s.run(b)
	s.remove(b)
}

// TestLeakedDescriptors: what a daemon leaks to the shim is not even held open by
// the process that serves, and reaches no OCI runtime.
func TestLeakedDescriptors(t *testing.T) {
	b := newBed(t)
	leak, err := os.Create(filepath.Join(t.TempDir(), "leaked"))
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	cmd := exec.CommandContext(t.Context(), binary, "-namespace", b.ns, "-address", b.sockets+"/containerd.sock", "-id", b.id, "start")
	cmd.Dir = b.bundle
	cmd.Stdin = strings.NewReader(string(b.params()))
	cmd.ExtraFiles = []*os.File{leak, leak, leak} // descriptors 3 to 5
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var reply bootapi.BootstrapResult
	if err := proto.Unmarshal(out, &reply); err != nil {
		t.Fatal(err)
	}
	s := b.serving(reply.Address)
	s.run(b)
	for _, target := range openFiles(t, s.pid) {
		if target == leak.Name() {
			t.Errorf("the shim holds %s", target)
		}
	}
	for _, c := range b.fake.Calls() {
		for fd, target := range c.FDs {
			if target == leak.Name() {
				t.Errorf("%s got %s as descriptor %s", c.Step, target, fd)
			}
		}
	}
	s.remove(b)
}

func openFiles(t testing.TB, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}
