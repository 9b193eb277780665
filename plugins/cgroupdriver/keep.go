// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// keeper puts back what systemd takes from a container's scope when it reads its
// units again (systemctl daemon-reload, the upgrade of a package). It then
// writes each setting of a scope that it knows, and its defaults for those that
// the OCI runtime could not tell it:
//
//   - memory.oom.group becomes 0: systemd has a property for scopes, OOMPolicy,
//     only from version 253 on, and older runtimes do not set it.
//   - memory.swap.max becomes max where it was 0, or what it was before: runc
//     passes on no MemorySwapMax of 0.
//
// What there has to be is what the container was created with and what updates
// of it left (wish). An update that does not pass through the daemon is not
// known: of what a container was created with only systemd's defaults are taken
// for lost.
//
// crun puts a container, with its limits, into a cgroup within the scope, where
// systemd takes nothing. What were put back in the scope would stay there as a
// second limit, of which crun's updates know nothing.
//
// A keeper may be used concurrently.
type keeper struct {
	// root is prepended to the paths of cgroups; "" is the real host.
	root string
	// tasks holds the bundles, by namespace and id.
	tasks string

	// mu is held while the files of one container are compared and written, all
	// of which are in memory: those of its cgroup, and its bundle below /run.
	mu sync.Mutex
	// updating counts the updates under way, by bundle. Meanwhile nobody can tell
	// what systemd took from what the update changed.
	updating map[string]int
}

func newKeeper(root, tasks string) *keeper {
	return &keeper{root: root, tasks: tasks, updating: map[string]int{}}
}

// pass looks at every container that is in a scope and returns what it put back,
// for the log.
func (k *keeper) pass() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(k.tasks, "*", "*", specName))
	if err != nil {
		return nil, fmt.Errorf("look for bundles: %w", err)
	}
	var restored []string
	var errs []error
	for _, file := range files {
		bundle := filepath.Dir(file)
		k.mu.Lock()
		done, err := k.restoreLocked(bundle)
		k.mu.Unlock()
		restored = append(restored, done...)
		if err != nil && !vanished(err) {
			errs = append(errs, fmt.Errorf("container %s: %w", filepath.Base(bundle), err))
		}
	}
	return restored, errors.Join(errs...)
}

// vanished recognizes that a container went while it was looked at.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// crunGroup is the cgroup that crun makes in a scope.
const crunGroup = "container"

// scope finds the cgroup of a bundle's container; nil when that is not a scope of
// cgroup2, or has ended.
func (k *keeper) scope(cgroupsPath string) *cgroup.Cgroup {
	if cgroup.Shape(cgroupsPath) != cgroup.Systemd {
		return nil
	}
	c, err := cgroup.OpenIn(k.root, cgroupsPath)
	if err != nil || c.Mode() != cgroup.Unified {
		return nil
	}
	if st, err := os.Stat(filepath.Join(c.Dir(), crunGroup)); err == nil && st.IsDir() {
		return nil
	}
	return c
}

// restoreLocked puts back what a container has lost. One that is being updated
// is looked at afterwards.
func (k *keeper) restoreLocked(bundle string) ([]string, error) {
	if k.updating[bundle] > 0 {
		return nil, nil
	}
	spec, err := readSpec(bundle)
	if err != nil {
		return nil, err
	}
	updated, err := loadWish(bundle)
	if err != nil {
		return nil, err
	}
	created := spec.Linux.Resources.wish()
	if len(created)+len(updated) == 0 {
		return nil, nil
	}
	c := k.scope(spec.Linux.CgroupsPath)
	if c == nil {
		return nil, nil
	}
	var restored []string
	for file, forgotten := range systemdDefaults {
		want, known := updated[file]
		if !known {
			want = created[file]
		}
		if want == "" {
			continue
		}
		path := filepath.Join(c.Dir(), file)
		now, err := readValue(path)
		if err != nil {
			return restored, err
		}
		if now == want || !known && now != forgotten {
			continue
		}
		if err := overwrite(path, want); err != nil {
			return restored, fmt.Errorf("put back %s: %w", file, err)
		}
		restored = append(restored, filepath.Base(c.Dir())+"/"+file)
	}
	return restored, nil
}

// update is to be called before a container is updated, and what it returns
// afterwards, with the resources if that succeeded, else with nil.
func (k *keeper) update(namespace, id string) (done func(context.Context, *resources)) {
	bundle := filepath.Join(k.tasks, namespace, id)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.updating[bundle]++
	return func(ctx context.Context, r *resources) {
		if err := k.updated(bundle, r); err != nil && !vanished(err) {
			log.G(ctx).WithError(err).WithField("container", id).Warn("limits that systemd will forget may not be put back")
		}
	}
}

// updated remembers what an update left, and puts back what was lost meanwhile.
func (k *keeper) updated(bundle string, r *resources) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.updating[bundle]--; k.updating[bundle] == 0 {
		delete(k.updating, bundle)
	}
	if r != nil {
		if err := k.rememberLocked(bundle, *r); err != nil {
			return err
		}
	}
	_, err := k.restoreLocked(bundle)
	return err
}

func (k *keeper) rememberLocked(bundle string, r resources) error {
	spec, err := readSpec(bundle)
	if err != nil {
		return err
	}
	c := k.scope(spec.Linux.CgroupsPath)
	if c == nil {
		return nil
	}
	w, err := loadWish(bundle)
	if err != nil {
		return err
	}
	said := r.wish()
	for file := range systemdDefaults {
		value, ok := said[file]
		if !ok && !r.touches(file) {
			continue
		}
		// What follows from other values the runtime has worked out.
		if !ok {
			if value, err = readValue(filepath.Join(c.Dir(), file)); err != nil {
				return err
			}
		}
		w[file] = value
	}
	return w.save(bundle)
}

func readValue(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// overwrite writes a file that is there.
func overwrite(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
