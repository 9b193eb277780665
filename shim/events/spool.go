// SPDX-License-Identifier: Apache-2.0

package events

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// spoolFile is the name of the spool in the bundle of the shim.
const spoolFile = "events.spool"

// trimAt is the size from which the file of an empty spool is cut at once; below
// it that waits until the sender has nothing to do.
const trimAt = 64 << 10

// spool is the file with the events that were not delivered yet. It outlives the
// shim, and tells by its lock whether the shim lives. It is made with the first
// event. It is not safe for concurrent use.
type spool struct {
	path   string // "" when there is none, for want of a directory
	file   *os.File
	size   int64
	broken bool // it was said that it cannot be made
}

// open makes the file, in the place of one that is left there.
func (s *spool) open() error {
	if s.file != nil {
		return nil
	}
	fd, err := createExclusive(s.path)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), s.path)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("lock %s: %w", s.path, err)
	}
	if _, err := f.WriteAt(encodeHeader(0), 0); err != nil {
		f.Close()
		return fmt.Errorf("keep events: %w", err)
	}
	s.file, s.size = f, headerSize
	return nil
}

// createExclusive makes a file that nobody else has made, and follows no link.
func createExclusive(path string) (int, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0o600)
	if errors.Is(err, unix.EEXIST) {
		if err := unix.Unlink(path); err != nil {
			return -1, fmt.Errorf("keep events: %w", &os.PathError{Op: "unlink", Path: path, Err: err})
		}
		fd, err = unix.Open(path, flags, 0o600)
	}
	if err != nil {
		return -1, fmt.Errorf("keep events: %w", &os.PathError{Op: "create", Path: path, Err: err})
	}
	return fd, nil
}

// append adds a record and returns where it is. After an error the file is as it
// was.
func (s *spool) append(record []byte) (off, n uint32, err error) {
	if s.path == "" {
		return 0, 0, nil
	}
	if err := s.open(); err != nil {
		return 0, 0, err
	}
	if _, err := s.file.WriteAt(record, s.size); err != nil {
		_ = s.file.Truncate(s.size) // a reader skips what is cut off
		return 0, 0, fmt.Errorf("keep an event: %w", err)
	}
	off = uint32(s.size)
	s.size += int64(len(record))
	return off, uint32(len(record)), nil
}

// read returns the event of a record.
func (s *spool) read(off, n uint32) (item, error) {
	b := make([]byte, n)
	if _, err := s.file.ReadAt(b, int64(off)); err != nil {
		return item{}, fmt.Errorf("read an event back: %w", err)
	}
	_, _, payload, err := decodeRecord(b)
	if err != nil {
		return item{}, fmt.Errorf("read an event back: %w: %w", err, errdefs.ErrDataLoss)
	}
	it, _, err := decodePayload(payload)
	return it, err
}

// drop marks a record as one that is not to be delivered.
func (s *spool) drop(off uint32) error {
	if s.file == nil {
		return nil
	}
	_, err := s.file.WriteAt([]byte{byte(classDropped)}, int64(off)+classOffset)
	return err
}

// delivered notes that all events up to seq are through.
func (s *spool) delivered(seq uint64) error {
	if s.file == nil {
		return nil
	}
	_, err := s.file.WriteAt(order.AppendUint64(nil, seq), doneOffset)
	return err
}

// empty cuts the file to its header; there must be no event in it.
func (s *spool) empty() error {
	if s.file == nil || s.size == headerSize {
		return nil
	}
	if err := s.file.Truncate(headerSize); err != nil {
		return fmt.Errorf("empty the spool of events: %w", err)
	}
	s.size = headerSize
	return nil
}

// rewrite moves the records that are given to a new file, which takes the place
// of the old one whole or not at all, and tells where they are now.
func (s *spool) rewrite(done uint64, entries []*entry) (_ map[uint64]uint32, retErr error) {
	next := spool{path: filepath.Join(filepath.Dir(s.path), "."+filepath.Base(s.path))}
	defer func() {
		if retErr != nil && next.file != nil {
			next.file.Close()
			_ = os.Remove(next.path) // the first error tells more
		}
	}()
	if err := next.open(); err != nil {
		return nil, err
	}
	if err := next.delivered(done); err != nil {
		return nil, err
	}
	places := make(map[uint64]uint32, len(entries))
	for _, e := range entries {
		b := make([]byte, e.n)
		if _, err := s.file.ReadAt(b, int64(e.off)); err != nil {
			return nil, fmt.Errorf("move an event: %w", err)
		}
		off, _, err := next.append(b)
		if err != nil {
			return nil, err
		}
		places[e.seq] = off
	}
	if err := os.Rename(next.path, s.path); err != nil {
		return nil, fmt.Errorf("replace the spool of events: %w", err)
	}
	s.file.Close()
	s.file, s.size = next.file, next.size
	return places, nil
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}
