// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"strings"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/ledger"
	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// TestDeleteOfWhatDoesNotDie: while a process of the container lives the delete
// fails, in time, and tells no exit: the daemon keeps the bundle, and makes no second
// container of that id. Once it can die, the next delete ends it.
func TestDeleteOfWhatDoesNotDie(t *testing.T) {
	b := newBed(t)
	b.env = []string{config.CleanupEnv + "=2s"}
	s := b.start()
	pid := s.run(b)
	thaw := ocitest.Freeze(t, pid)
	s.signal(unix.SIGKILL)
	s.awaitEnd()
	r := b.run(nil, "delete")
	if r.code != 1 || len(r.stdout) > 0 || !strings.Contains(r.stderr, "goes on without a shim") {
		t.Errorf("%+v", r)
	}
	if e, err := ledger.Read(b.bundle); err == nil {
		t.Errorf("an exit is on record: %+v", e)
	}
	thaw()
	r = b.run(nil, "delete")
	var resp task.DeleteResponse
	if err := proto.Unmarshal(r.stdout, &resp); err != nil || r.code != 0 || int(resp.Pid) != pid {
		t.Fatalf("%+v, %v", r, err)
	}
	// It died of the first delete's signal, perhaps before the second one looked.
	e, err := ledger.Read(b.bundle)
	if err != nil || e.Status != int(resp.ExitStatus) || !(e.Status == 137 || e.Unknown && e.Status == ledger.UnknownStatus) {
		t.Errorf("%+v, %v, and told was %d", e, err, resp.ExitStatus)
	}
}
