// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A spool is a header and records, all numbers little endian.
//
//	header: magic (8 bytes), version u32, reserved u32, done u64, reserved u64
//	record: magic u32, class u8, reserved (3 bytes), length u32, crc u32, seq u64, payload
//
// The payload is the event's envelope as protobuf; the crc is that of seq and
// payload. Two things change in place, each by one write that a reader sees whole
// or not at all: done, up to which all events have been delivered, and the class
// of a record that was dropped.
const (
	spoolMagic   = "quoin-ev"
	spoolVersion = 1
	headerSize   = 32
	doneOffset   = 16

	recordMagic = 0x31765145 // "EQv1"
	recordSize  = 24
	classOffset = 4

	// maxPayload bounds what a reader believes, in bytes; ttrpc takes 4 MiB.
	maxPayload = 4 << 20
	// maxSpool bounds what is read of a file, in bytes.
	maxSpool = 64 << 20
)

var order = binary.LittleEndian

// CorruptError is a spool of which something cannot be read. What could be read
// is returned beside it. It is errdefs.ErrDataLoss.
type CorruptError struct {
	// Path is the spool's file.
	Path string
	// Reason says what is wrong, and where.
	Reason error
}

// Error names the file and the fault.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("events in %s are unreadable: %v", e.Path, e.Reason)
}

// Unwrap makes it errdefs.ErrDataLoss.
func (e *CorruptError) Unwrap() []error { return []error{errdefs.ErrDataLoss, e.Reason} }

// VersionError is a spool of a newer shim, which this one must not interpret. It
// is errdefs.ErrNotImplemented, for nothing is wrong with the spool: it is this build
// that does not know the form, as a caller who might take it for damaged has to see.
type VersionError struct {
	// Path is the spool's file.
	Path string
	// Version is the one found.
	Version uint32
}

// Error names both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("events in %s have version %d, this shim reads up to %d: use the newer shim", e.Path, e.Version, spoolVersion)
}

// Unwrap makes it errdefs.ErrNotImplemented.
func (e *VersionError) Unwrap() error { return errdefs.ErrNotImplemented }

func encodeHeader(done uint64) []byte {
	h := make([]byte, headerSize)
	copy(h, spoolMagic)
	order.PutUint32(h[8:], spoolVersion)
	order.PutUint64(h[doneOffset:], done)
	return h
}

// encodeRecord is what the spool holds of an event.
func encodeRecord(seq uint64, c class, payload []byte) []byte {
	b := make([]byte, recordSize, recordSize+len(payload))
	order.PutUint32(b, recordMagic)
	b[classOffset] = byte(c)
	order.PutUint32(b[8:], uint32(len(payload)))
	order.PutUint64(b[16:], seq)
	b = append(b, payload...)
	order.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

// decodeRecord reads the record at the beginning of b.
func decodeRecord(b []byte) (seq uint64, c class, payload []byte, err error) {
	if len(b) < recordSize {
		return 0, 0, nil, io.ErrUnexpectedEOF
	}
	if order.Uint32(b) != recordMagic {
		return 0, 0, nil, errors.New("no record")
	}
	n := order.Uint32(b[8:])
	if n > maxPayload || int(n) > len(b)-recordSize {
		return 0, 0, nil, fmt.Errorf("a record of %d bytes, with %d left: %w", n, len(b)-recordSize, io.ErrUnexpectedEOF)
	}
	whole := b[16 : recordSize+n]
	if order.Uint32(b[12:]) != crc32.ChecksumIEEE(whole) {
		return 0, 0, nil, errors.New("a record whose checksum is wrong")
	}
	return order.Uint64(b[16:]), class(b[classOffset]), whole[8:], nil
}

// saved is a record of a spool that is still to be delivered.
type saved struct {
	seq     uint64
	class   class
	off     int // of the record in the file
	size    int // of the record
	payload []byte
}

// decodeSpool reads a whole spool. The records are in the order of their seq, which
// is not that of the file once it was rewritten (see makeRoom). Those that cannot be
// read are skipped, up to the next one that can; the error tells of the first.
func decodeSpool(b []byte, path string) (records []saved, done uint64, err error) {
	switch {
	case len(b) == 0:
		return nil, 0, nil // made, and not written to yet
	case len(b) < headerSize || string(b[:8]) != spoolMagic:
		return nil, 0, &CorruptError{path, errors.New("it is no spool of events")}
	case order.Uint32(b[8:]) > spoolVersion:
		return nil, 0, &VersionError{path, order.Uint32(b[8:])}
	}
	done = order.Uint64(b[doneOffset:])
	magic := order.AppendUint32(nil, recordMagic)
	for off := headerSize; off < len(b); {
		seq, c, payload, rerr := decodeRecord(b[off:])
		if rerr != nil {
			if err == nil {
				err = &CorruptError{path, fmt.Errorf("at byte %d: %w", off, rerr)}
			}
			next := bytes.Index(b[off+1:], magic)
			if next < 0 {
				break
			}
			off += 1 + next
			continue
		}
		size := recordSize + len(payload)
		if seq > done && c != classDropped {
			records = append(records, saved{seq: seq, class: c, off: off, size: size, payload: payload})
		}
		off += size
	}
	slices.SortStableFunc(records, func(a, b saved) int { return cmp.Compare(a.seq, b.seq) })
	return records, done, err
}

func (it *item) envelope(namespace string) *types.Envelope {
	return &types.Envelope{
		Timestamp: timestamppb.New(it.at),
		Namespace: namespace,
		Topic:     it.topic,
		Event:     &anypb.Any{TypeUrl: it.typeURL, Value: it.value},
	}
}

func encodePayload(it *item, namespace string) ([]byte, error) {
	b, err := proto.Marshal(it.envelope(namespace))
	if err != nil {
		return nil, fmt.Errorf("encode the event %s: %w: %w", it.topic, err, errdefs.ErrInvalidArgument)
	}
	return b, nil
}

func decodePayload(b []byte) (item, string, error) {
	var e types.Envelope
	if err := proto.Unmarshal(b, &e); err != nil {
		return item{}, "", fmt.Errorf("decode an event: %w: %w", err, errdefs.ErrDataLoss)
	}
	it := item{topic: e.Topic, at: e.Timestamp.AsTime(), typeURL: e.GetEvent().GetTypeUrl(), value: e.GetEvent().GetValue()}
	return it, e.Namespace, nil
}
