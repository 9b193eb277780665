// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
)

// version is that of the fields we add. It grows when an old reader would
// misunderstand a new record, not when a field is added.
const version = 1

// Exit is how a process ended.
//
// Its first three fields are the ones that containerd's runc shim writes and
// reads (go-runc, type Exit), under the same names; decoders there take names in
// any case, so no other field may be called like them.
type Exit struct {
	// At is when the process ended.
	At time.Time `json:"Timestamp"`
	// Pid is its process id in the shim's PID namespace.
	Pid int `json:"Pid"`
	// Status is what is told to clients: the exit code, or 128 and the signal.
	Status int `json:"Status"`
	// Signal is the signal that ended the process, 0 if it exited by itself:
	// an exit code of 137 and SIGKILL are told apart by it.
	Signal int `json:"Signal,omitempty"`
	// OOM says that the kernel killed a process of the container for want of
	// memory before the exit.
	OOM bool `json:"OOM,omitempty"`
	// Unknown says that nobody knows how the process ended: its shim was gone.
	// Status is then UnknownStatus, and At the time at which that was found out.
	Unknown bool `json:"Unknown,omitempty"`
	// Learnt says how the status became known after the shim's death; empty when
	// the shim itself has waited for the process.
	Learnt string `json:"Learnt,omitempty"`
	// Exec is the id of the exec, empty for the init. Record and RecordExec set it.
	Exec string `json:"Exec,omitempty"`
}

// Values of Exit.Learnt.
const (
	// LearntPidfd: the kernel kept it for whoever held a pidfd.
	LearntPidfd = "pidfd"
	// LearntZombie: nobody had reaped the process yet.
	LearntZombie = "zombie"
	// LearntKilled: the process was alive when the one who tells killed it.
	LearntKilled = "killed"
)

// stored is an Exit in its file. Version 0 is a record of the runc shim.
type stored struct {
	Exit
	Version int `json:"QuoinVersion"`
}

// CorruptError is a record, of an exit or a birth, that is cut off, garbage, or
// says what cannot be. It is errdefs.ErrDataLoss.
type CorruptError struct {
	// Path is the record's file.
	Path string
	// Reason says what is wrong with it.
	Reason error
}

// Error names the file and the fault.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("record %s is unreadable: %v", e.Path, e.Reason)
}

// Unwrap makes it errdefs.ErrDataLoss.
func (e *CorruptError) Unwrap() []error { return []error{errdefs.ErrDataLoss, e.Reason} }

// VersionError is a record of a newer shim that this one must not interpret. It
// is errdefs.ErrNotImplemented, for nothing is wrong with the record: it is this build
// that does not know the form, as a caller who might take it for damaged has to see.
type VersionError struct {
	// Path is the record's file.
	Path string
	// Version is the one found.
	Version int
}

// Error names both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("record %s has version %d, this shim reads up to %d: use the newer shim", e.Path, e.Version, version)
}

// Unwrap makes it errdefs.ErrNotImplemented.
func (e *VersionError) Unwrap() error { return errdefs.ErrNotImplemented }

// check applies the runc shim's rule for what it takes for an exit.
func (e Exit) check() error {
	switch {
	case e.Pid <= 0:
		return fmt.Errorf("pid %d", e.Pid)
	case e.At.IsZero():
		return errors.New("no time")
	case e.Status < 0:
		return fmt.Errorf("status %d", e.Status)
	case e.Signal < 0:
		return fmt.Errorf("signal %d", e.Signal)
	}
	return nil
}

func encode(e Exit) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("record exit: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	e.At = e.At.UTC() // and without the monotonic clock
	b, err := json.Marshal(stored{e, version})
	if err != nil {
		return nil, fmt.Errorf("record exit of process %d: %w: %w", e.Pid, err, errdefs.ErrInvalidArgument)
	}
	return b, nil
}

// checkVersion refuses what is no single record, and a newer one, which may have
// changed the type of any other field.
func checkVersion(b []byte, path string) error {
	var head struct {
		Version int `json:"QuoinVersion"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&head); err != nil {
		return &CorruptError{path, err}
	}
	if _, err := dec.Token(); err != io.EOF {
		return &CorruptError{path, errors.New("more than one record")}
	}
	if head.Version > version {
		return &VersionError{path, head.Version}
	}
	return nil
}

// decodeInto reads one record, of an exit or a birth.
func decodeInto(record interface{ check() error }, b []byte, path string) error {
	if err := checkVersion(b, path); err != nil {
		return err
	}
	if err := json.Unmarshal(b, record); err != nil {
		return &CorruptError{path, err}
	}
	if err := record.check(); err != nil {
		return &CorruptError{path, err}
	}
	return nil
}

// decode reads one record of an exit; exec is the one that path belongs to.
func decode(b []byte, path, exec string) (Exit, error) {
	var s stored
	if err := decodeInto(&s, b, path); err != nil {
		return Exit{}, err
	}
	if s.Exec != exec {
		return Exit{}, &CorruptError{path, fmt.Errorf("it belongs to exec %q", s.Exec)}
	}
	return s.Exit, nil
}
