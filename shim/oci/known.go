// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

// Known is what a process has learnt of the runtimes that refused a spec for its
// version: how new a spec each of them takes. It is keyed by the binary's identity
// on disk, so an upgraded runtime is asked anew. It is safe for concurrent use,
// and small: one entry for each old runtime.
type Known struct {
	mu     sync.Mutex
	levels map[binaryID]level
}

// NewKnown makes an empty Known.
func NewKnown() *Known { return &Known{} }

// binaryID tells one state of a file from another.
type binaryID struct {
	path      string
	dev, ino  uint64
	size      int64
	sec, nsec int64
}

// level is how new a spec a runtime takes.
type level struct {
	name    string  // of the runtime and its release, for errors
	spec    string  // written into the spec, as the runtime says it
	max     numbers // the same, comparable
	crun    bool
	release numbers
}

func (k *Known) get(id binaryID) (level, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.levels[id]
	return l, ok
}

func (k *Known) put(id binaryID, l level) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.levels == nil {
		k.levels = map[binaryID]level{}
	}
	k.levels[id] = l
}

// empty tells cheaply that there is nothing to look up.
func (k *Known) empty() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.levels) == 0
}

func identify(binary string) (binaryID, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		return binaryID{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return binaryID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return binaryID{path, uint64(st.Dev), st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec}, nil
}

// probe asks the runtime for its version, and for its features when it has them.
// Both were refused nothing yet: a spec was, so this is rare.
func (r *Runtime) probe(ctx context.Context) (level, error) {
	v, err := r.Version(ctx)
	if err != nil {
		return level{}, err
	}
	l := level{name: v.String(), spec: v.Spec, crun: v.Name == "crun"}
	l.release, _ = parseNumbers(v.Release)
	switch data, err := r.Features(ctx); {
	case err == nil:
		var f struct {
			Max string `json:"ociVersionMax"`
		}
		if json.Unmarshal(data, &f) == nil && f.Max != "" {
			l.spec = f.Max
		}
	case ctx.Err() != nil:
		return level{}, err
	case !errors.Is(err, errdefs.ErrNotImplemented) && l.spec == "":
		return level{}, err
	}
	max, ok := parseNumbers(l.spec)
	if !ok {
		return level{}, &Error{Op: "features", Message: fmt.Sprintf("%s does not say which version of the OCI spec it knows", v)}
	}
	l.max = max
	return l, nil
}
