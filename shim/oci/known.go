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
)

// Known is what a process has learnt of the runtimes that refused a spec for its
// version: how new a spec each of them takes. It is keyed by the binary's identity
// on disk, so an upgraded runtime is asked anew. It is safe for concurrent use,
// and small: one entry for each old runtime. What one process learns is also left
// beside the bundles (see note.go) for the shims to come.
type Known struct {
	mu     sync.Mutex
	levels map[binaryID]level
}

// NewKnown makes an empty Known.
func NewKnown() *Known { return &Known{} }

// binaryID tells one state of a file from another.
type binaryID struct {
	Path      string
	Dev, Ino  uint64
	Size      int64
	Sec, Nsec int64 // of its last change
}

// level is how new a spec a runtime takes.
type level struct {
	Name    string  // of the runtime and its release, for errors
	Spec    string  // written into the spec, as the runtime says it
	Max     numbers // the same, comparable
	Crun    bool
	Release numbers
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

// probe asks the runtime for its version, and for its features. A crun is not
// asked for those: the ones that look at a version have none, or say nothing more.
func (r *Runtime) probe(ctx context.Context) (level, error) {
	v, err := r.Version(ctx)
	if err != nil {
		return level{}, err
	}
	l := level{Name: v.String(), Spec: v.Spec, Crun: v.Name == "crun"}
	l.Release, _ = parseNumbers(v.Release)
	if !l.Crun || l.Spec == "" {
		max, err := r.featuresMax(ctx)
		if err != nil {
			return level{}, err
		}
		if max != "" {
			l.Spec = max
		}
	}
	var ok bool
	if l.Max, ok = parseNumbers(l.Spec); !ok {
		return level{}, &Error{Op: "features", Message: fmt.Sprintf("%s does not say which version of the OCI spec it knows", v)}
	}
	if all10 := (numbers{1, 0, 2}); l.Crun && l.Max.less(all10) {
		l.Max = all10 // it claims 1.0.0, and takes any 1.0
	}
	return l, nil
}

// featuresMax is the newest version in the runtime's features; empty when it has
// no features, or says nothing.
func (r *Runtime) featuresMax(ctx context.Context) (string, error) {
	data, err := r.Features(ctx)
	if err != nil {
		var said *Error
		if errors.As(err, &said) {
			return "", nil // it has none, in whatever words
		}
		return "", err
	}
	var f struct {
		Max string `json:"ociVersionMax"`
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return "", nil // then its --version has to do
	}
	return f.Max, nil
}
