// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	oomGroup = "memory.oom.group"
	swapMax  = "memory.swap.max"

	specName = "config.json"
	// wishName is the file beside a bundle's config.json that says what updates
	// left. It goes with the bundle, and lives as long as the container.
	wishName = "quoin-updated.json"
)

// systemdDefaults are what systemd writes into the files that it knows nothing
// about.
var systemdDefaults = map[string]string{oomGroup: "0", swapMax: "max"}

// wish says what files of a cgroup have to hold, of those in systemdDefaults.
type wish map[string]string

// resources are what of the OCI's LinuxResources matters here.
type resources struct {
	Memory struct {
		Limit *int64 `json:"limit"`
		Swap  *int64 `json:"swap"`
	} `json:"memory"`
	Unified map[string]string `json:"unified"`
}

// bundleSpec is what of a config.json matters here.
type bundleSpec struct {
	Linux struct {
		CgroupsPath string    `json:"cgroupsPath"`
		Resources   resources `json:"resources"`
	} `json:"linux"`
}

// wish returns what the resources say in so many words, as the kernel will
// spell it.
func (r resources) wish() wish {
	w := wish{}
	if v := r.Unified[oomGroup]; v == "0" || v == "1" {
		w[oomGroup] = v
	}
	v, named := r.Unified[swapMax]
	switch {
	case v == "0" || v == "max":
		w[swapMax] = v
	// The OCI's swap is memory and swap together.
	case !named && r.Memory.Limit != nil && r.Memory.Swap != nil && *r.Memory.Limit > 0 && *r.Memory.Limit == *r.Memory.Swap:
		w[swapMax] = "0"
	}
	return w
}

// touches says whether an update to these resources may change a file.
func (r resources) touches(file string) bool {
	_, named := r.Unified[file]
	return named || file == swapMax && (r.Memory.Limit != nil || r.Memory.Swap != nil)
}

func readSpec(bundle string) (bundleSpec, error) {
	var spec bundleSpec
	path := filepath.Join(bundle, specName)
	text, err := os.ReadFile(path)
	if err != nil {
		return spec, err
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		return spec, fmt.Errorf("read %s: %w", path, err)
	}
	return spec, nil
}

// loadWish returns what updates of a bundle's container left.
func loadWish(bundle string) (wish, error) {
	w := wish{}
	path := filepath.Join(bundle, wishName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &w); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return w, nil
}

// save writes the wish, whole or not at all.
func (w wish) save(bundle string) error {
	text, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("encode what an update left: %w", err)
	}
	path := filepath.Join(bundle, wishName)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("remember what an update left: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("remember what an update left: %w", err)
	}
	return nil
}
