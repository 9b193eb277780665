// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
//   - memory.swap.max becomes max where it was 0: runc passes on no MemorySwapMax
//     of 0.
//
// The wish is the one that the container was created with. One that an update
// took back later is taken for lost, too.
type keeper struct {
	// root is prepended to the paths of cgroups; "" is the real host.
	root string
	// tasks holds the bundles, by namespace and id.
	tasks string
}

// limit is one that systemd forgets: it is put back where the file holds lost.
type limit struct{ file, lost, value string }

// bundleSpec is what of a config.json matters here.
type bundleSpec struct {
	Linux struct {
		CgroupsPath string `json:"cgroupsPath"`
		Resources   struct {
			Memory struct {
				Limit int64 `json:"limit"`
				Swap  int64 `json:"swap"`
			} `json:"memory"`
			Unified map[string]string `json:"unified"`
		} `json:"resources"`
	} `json:"linux"`
}

func (s bundleSpec) limits() []limit {
	var out []limit
	r := s.Linux.Resources
	if r.Unified["memory.oom.group"] == "1" {
		out = append(out, limit{"memory.oom.group", "0", "1"})
	}
	// The OCI's swap is memory and swap together.
	if r.Memory.Limit > 0 && r.Memory.Swap == r.Memory.Limit {
		out = append(out, limit{"memory.swap.max", "max", "0"})
	}
	return out
}

// pass looks at every container that is in a scope and returns what it put back,
// for the log.
func (k keeper) pass() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(k.tasks, "*", "*", "config.json"))
	if err != nil {
		return nil, fmt.Errorf("look for bundles: %w", err)
	}
	var restored []string
	var errs []error
	for _, file := range files {
		done, err := k.restore(file)
		restored = append(restored, done...)
		if err != nil && !vanished(err) {
			errs = append(errs, fmt.Errorf("container %s: %w", filepath.Base(filepath.Dir(file)), err))
		}
	}
	return restored, errors.Join(errs...)
}

// vanished recognizes that a container went while it was looked at.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

func (k keeper) restore(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var spec bundleSpec
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	limits := spec.limits()
	if len(limits) == 0 || cgroup.Shape(spec.Linux.CgroupsPath) != cgroup.Systemd {
		return nil, nil
	}
	c, err := cgroup.OpenIn(k.root, spec.Linux.CgroupsPath)
	if err != nil || c.Mode() != cgroup.Unified {
		return nil, nil // it has ended, or is not placed as its path says
	}
	var restored []string
	for _, l := range limits {
		path := filepath.Join(c.Dir(), l.file)
		now, err := os.ReadFile(path)
		if err != nil {
			return restored, err
		}
		if strings.TrimSpace(string(now)) != l.lost {
			continue
		}
		if err := overwrite(path, l.value); err != nil {
			return restored, fmt.Errorf("put back %s: %w", l.file, err)
		}
		restored = append(restored, filepath.Base(c.Dir())+"/"+l.file)
	}
	return restored, nil
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
