// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// An envelope is a header and a body of JSON:
//
//	magic    8 bytes
//	version  4 bytes, big endian
//	length   8 bytes, of the body
//	digest  32 bytes, SHA-256 of the body
const (
	magic        = "quoin-up"
	versionAt    = len(magic)
	lengthAt     = versionAt + 4
	digestAt     = lengthAt + 8
	headerLength = digestAt + sha256.Size
)

// maxBody bounds an envelope, in bytes: thousands of containers, and far less
// than what a shim can afford to read.
const maxBody = 64 << 20

// Envelope is state on its way from one image to the next.
type Envelope struct {
	// Version of the format of Body.
	Version int
	// Body is JSON.
	Body []byte
}

// Seal encodes state and puts it into an anonymous file that nobody can change
// any more. The file is close-on-exec.
func Seal(version int, state any) (*os.File, error) {
	body, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("encode the state: %w: %w", err, errdefs.ErrInternal)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("the state has %d bytes, %d are possible: %w", len(body), maxBody, errdefs.ErrOutOfRange)
	}
	fd, err := unix.MemfdCreate("quoin-upgrade", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make the envelope: %w", os.NewSyscallError("memfd_create", err))
	}
	f := os.NewFile(uintptr(fd), "envelope")
	if err := seal(f, Envelope{Version: version, Body: body}); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the envelope: %w", err)
	}
	return f, nil
}

func seal(f *os.File, e Envelope) error {
	if _, err := f.Write(e.header()); err != nil {
		return err
	}
	if _, err := f.Write(e.Body); err != nil {
		return err
	}
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	return os.NewSyscallError("fcntl", err)
}

func (e Envelope) header() []byte {
	header := make([]byte, headerLength)
	copy(header, magic)
	binary.BigEndian.PutUint32(header[versionAt:], uint32(e.Version))
	binary.BigEndian.PutUint64(header[lengthAt:], uint64(len(e.Body)))
	digest := sha256.Sum256(e.Body)
	copy(header[digestAt:], digest[:])
	return header
}

// Open reads an envelope from the beginning of f, wherever f's offset is.
//
// Errors: errdefs.ErrInvalidArgument for what is no envelope or is damaged,
// errdefs.ErrNotImplemented for a version that this build does not read.
func Open(f *os.File) (Envelope, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, int64(headerLength+maxBody+1)))
	if err != nil {
		return Envelope{}, fmt.Errorf("read the envelope: %w", err)
	}
	return parse(data)
}

// parse returns an Envelope that shares data.
func parse(data []byte) (Envelope, error) {
	bad := func(format string, args ...any) (Envelope, error) {
		return Envelope{}, fmt.Errorf("the envelope %s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	switch {
	case len(data) < headerLength:
		return bad("is cut off after %d bytes", len(data))
	case !bytes.HasPrefix(data, []byte(magic)):
		return bad("is none: it begins with %q", data[:len(magic)])
	}
	version := binary.BigEndian.Uint32(data[versionAt:])
	length := binary.BigEndian.Uint64(data[lengthAt:])
	body := data[headerLength:]
	if length != uint64(len(body)) {
		return bad("has %d bytes of state and announces %d", len(body), length)
	}
	if digest := sha256.Sum256(body); !bytes.Equal(digest[:], data[digestAt:headerLength]) {
		return bad("is damaged: its digest does not match")
	}
	e := Envelope{Version: int(version), Body: body}
	if !reads(e.Version) {
		// Not implemented, and not invalid: it is whole, and of a release that writes a
		// format which this build is too old, or too new, to read.
		return Envelope{}, fmt.Errorf("the envelope has format %d, this build reads %s: %w", version, list(Versions()), errdefs.ErrNotImplemented)
	}
	return e, nil
}

// Decode puts the state into v. It is errdefs.ErrInvalidArgument when that is of
// another shape. Fields that v does not have are ignored.
func (e Envelope) Decode(v any) error {
	if err := json.Unmarshal(e.Body, v); err != nil {
		return fmt.Errorf("decode the state of format %d: %w: %w", e.Version, err, errdefs.ErrInvalidArgument)
	}
	return nil
}
