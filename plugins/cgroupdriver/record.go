// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// record is the decision on disk. It holds for one boot only.
type record struct {
	Version int    `json:"version"`
	BootID  string `json:"boot_id"`
	Decision
}

const (
	recordName    = "decision.json"
	recordVersion = 1
)

// loadRecord returns the decision of this boot; nil when there is none. An
// error means that the file is there and cannot be understood.
func loadRecord(dir, bootID string) (*Decision, error) {
	name := filepath.Join(dir, recordName)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the earlier cgroup driver: %w", err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read the earlier cgroup driver from %s: %w", name, err)
	}
	known := r.Driver == cgroup.Systemd || r.Driver == cgroup.Cgroupfs
	if r.Version != recordVersion || r.BootID != bootID || bootID == "" || !known {
		return nil, nil
	}
	return &r.Decision, nil
}

// saveRecord replaces the file as a whole: a daemon killed on the way leaves
// the old one.
func saveRecord(dir, bootID string, d Decision) error {
	data, err := json.Marshal(record{Version: recordVersion, BootID: bootID, Decision: d})
	if err != nil {
		return fmt.Errorf("keep the cgroup driver: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the cgroup driver: %w", err)
	}
	if err := replaceFile(filepath.Join(dir, recordName), data); err != nil {
		return fmt.Errorf("keep the cgroup driver: %w", err)
	}
	return nil
}

func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
