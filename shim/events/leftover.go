// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func spoolPath(dir string) string { return filepath.Join(dir, spoolFile) }

// readSpool takes over the spool of the publisher that was parked.
func (p *Publisher) readSpool(f *os.File) ([]parkedEntry, error) {
	b, err := readAll(f)
	if err != nil {
		return nil, err
	}
	records, _, err := decodeSpool(b, p.spool.path)
	var newer *VersionError
	if errors.As(err, &newer) {
		return nil, err
	}
	if err != nil {
		p.log.WithError(err).Error("some events are lost")
	}
	p.spool.file, p.spool.size = f, int64(len(b))
	all := make([]parkedEntry, 0, len(records))
	for _, r := range records {
		all = append(all, parkedEntry{entry{seq: r.seq, off: uint32(r.off), n: uint32(r.size)}, min(r.class, classInit)})
	}
	return all, nil
}

func readAll(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxSpool {
		return nil, &CorruptError{f.Name(), fmt.Errorf("it is no file of at most %d bytes (%s, %d)", maxSpool, info.Mode(), info.Size())}
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return b, nil
}

// Event is one that its shim did not deliver.
type Event struct {
	Seq       uint64
	Topic     string
	Namespace string
	At        time.Time
	// TypeURL and Value are its message, encoded.
	TypeURL string
	Value   []byte
}

// Leftover is what a shim that is gone has left in its spool. It belongs to one
// process at a time.
type Leftover struct {
	file   *os.File
	events []Event
}

// OpenLeftover opens the spool in dir for whoever delivers what is in it. A damaged one
// is a CorruptError, with a Leftover of what could be read.
//
// Errors: errdefs.ErrNotFound when there is none; errdefs.ErrUnavailable while its
// shim, or somebody else who delivers it, lives; VersionError.
func OpenLeftover(dir string) (*Leftover, error) {
	path := spoolPath(dir)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("no events in %s: %w", path, errdefs.ErrNotFound)
	case errors.Is(err, unix.ELOOP):
		return nil, &CorruptError{path, errors.New("it is a symbolic link")}
	case err != nil:
		return nil, fmt.Errorf("read events: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("read events: %s is in use: %w: %w", path, err, errdefs.ErrUnavailable)
	}
	b, err := readAll(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	records, _, err := decodeSpool(b, path)
	var newer *VersionError
	if errors.As(err, &newer) {
		f.Close()
		return nil, err
	}
	l := &Leftover{file: f}
	for _, r := range records {
		it, namespace, derr := decodePayload(r.payload)
		if derr != nil {
			err = errors.Join(err, &CorruptError{path, derr})
			continue
		}
		l.events = append(l.events, Event{Seq: r.seq, Topic: it.topic, Namespace: namespace, At: it.at, TypeURL: it.typeURL, Value: it.value})
	}
	return l, err
}

// Events are those that are left, in the order of their publishing.
func (l *Leftover) Events() []Event { return l.events }

// Deliver hands them to the daemon at address, in order, without those that skip
// chooses, and notes each that is through, so that a second time begins after the
// last one. It tells how many the daemon took. An event that the daemon rejects as
// invalid is skipped.
func (l *Leftover) Deliver(ctx context.Context, address string, skip func(Event) bool) (int, error) {
	path, err := socketPath(address)
	if err != nil {
		return 0, err
	}
	left := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	c := &client{path: path, timeout: left}
	defer c.close()
	delivered := 0
	for len(l.events) > 0 {
		e := l.events[0]
		if !skip(e) {
			_, err := c.forward(ctx, e.Namespace, item{topic: e.Topic, at: e.At, typeURL: e.TypeURL, value: e.Value})
			if err != nil && !hopeless(err) {
				return delivered, fmt.Errorf("deliver the event %s of a shim that is gone: %w", e.Topic, err)
			}
			if err == nil {
				delivered++
			}
		}
		if err := l.done(); err != nil {
			return delivered, err
		}
	}
	return delivered, nil
}

// done notes that the oldest event is through.
func (l *Leftover) done() error {
	if len(l.events) == 0 {
		return nil
	}
	s := spool{file: l.file}
	if err := s.delivered(l.events[0].Seq); err != nil {
		return fmt.Errorf("note that an event was delivered: %w", err)
	}
	l.events = l.events[1:]
	return nil
}

// Close lets others have the spool.
func (l *Leftover) Close() error { return l.file.Close() }

// Forward hands the daemon at address one event, in place of a shim that is gone.
func Forward(ctx context.Context, address, namespace, topic string, event any, at time.Time) error {
	path, err := socketPath(address)
	if err != nil {
		return err
	}
	it, err := encode(topic, event, at)
	if err != nil {
		return err
	}
	c := &client{path: path, timeout: defaults().connect}
	defer c.close()
	if _, err := c.forward(ctx, namespace, it); err != nil {
		return fmt.Errorf("deliver the event %s of a shim that is gone: %w", topic, err)
	}
	return nil
}
