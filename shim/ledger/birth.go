// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// Names of birth records: of a container's init, and what begins those of execs.
const (
	birthFile   = "birth.json"
	birthPrefix = "birth"
)

// Birth says which process was made, so that it can be found and ended beyond
// doubt when its shim is gone. A container's first is written before the OCI
// runtime runs, without a process: from then on something may have to be ended.
type Birth struct {
	// Shim serves the container.
	Shim Identity
	// Process is the init or the exec; a zero Identity while it is being made.
	Process Identity
	// CgroupsPath is what the OCI runtime was told, empty if it chose itself.
	CgroupsPath string `json:",omitempty"`
	// Spool is the directory with the events that the shim has not delivered.
	Spool string `json:",omitempty"`
	// Exec is the id of the exec, empty for the init. RecordBirth and
	// RecordExecBirth set it.
	Exec string `json:",omitempty"`
}

// storedBirth is a Birth in its file.
type storedBirth struct {
	Birth
	Version int `json:"QuoinVersion"`
}

// RecordBirth stores that a container's init is being made, or was. A reader sees
// the old record or the new one whole. It is not synced: it has to survive the
// shim, and nothing survives the machine.
func RecordBirth(bundle string, b Birth) error {
	b.Exec = ""
	return writeBirth(bundle, birthFile, b)
}

// RecordExecBirth stores that an exec was made; ids are those of RecordExec.
func RecordExecBirth(bundle, id string, b Birth) error {
	if err := checkExecID(id); err != nil {
		return fmt.Errorf("record birth: %w", err)
	}
	b.Exec = id
	return writeBirth(bundle, birthOf(id), b)
}

func writeBirth(bundle, name string, b Birth) error {
	content, err := json.Marshal(storedBirth{b, version})
	if err != nil {
		return fmt.Errorf("record birth of process %d: %w: %w", b.Process.Pid, err, errdefs.ErrInvalidArgument)
	}
	return write(bundle, name, content, false)
}

// ReadBirth returns the birth record of a container's init. None, which says that
// nothing was made or that all of it is gone, is errdefs.ErrNotFound, a damaged one
// a CorruptError, a newer one a VersionError.
func ReadBirth(bundle string) (Birth, error) { return readBirth(bundle, birthFile, "") }

// ReadExecBirth returns the birth record of an exec, with ReadBirth's errors.
func ReadExecBirth(bundle, id string) (Birth, error) { return readBirth(bundle, birthOf(id), id) }

// ExecBirths returns those of a container's execs that have one and have not been
// deleted, in the order of their files. An error is about those that are missing.
func ExecBirths(bundle string) ([]Birth, error) {
	entries, err := os.ReadDir(bundle)
	if err != nil {
		return nil, fmt.Errorf("list the birth records: %w", err)
	}
	var births []Birth
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if name == birthFile || !strings.HasPrefix(name, birthPrefix) || !strings.HasSuffix(name, ".json") {
			continue
		}
		b, err := readBirth(bundle, name, "")
		switch {
		case err != nil:
			errs = append(errs, err)
		case birthOf(b.Exec) != name:
			errs = append(errs, &CorruptError{filepath.Join(bundle, name), fmt.Errorf("it belongs to exec %q", b.Exec)})
		default:
			births = append(births, b)
		}
	}
	return births, errors.Join(errs...)
}

// RemoveBirth says that nothing is left of a container; none is no error.
func RemoveBirth(bundle string) error {
	if err := os.Remove(filepath.Join(bundle, birthFile)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove birth record: %w", err)
	}
	return nil
}

func birthOf(exec string) string { return birthPrefix + execSuffix(exec) }

// readBirth reads one record; exec is the one that it belongs to, "" for any.
func readBirth(bundle, name, exec string) (Birth, error) {
	path := filepath.Join(bundle, name)
	content, err := read(path)
	if err != nil {
		return Birth{}, err
	}
	var s storedBirth
	if err := decodeInto(&s, content, path); err != nil {
		return Birth{}, err
	}
	if exec != "" && s.Exec != exec {
		return Birth{}, &CorruptError{path, fmt.Errorf("it belongs to exec %q", s.Exec)}
	}
	return s.Birth, nil
}

func (b Birth) check() error {
	if err := b.Shim.check(); err != nil {
		return fmt.Errorf("the shim: %w", err)
	}
	if b.Process == (Identity{}) && b.Exec == "" {
		return nil
	}
	return b.Process.check()
}
