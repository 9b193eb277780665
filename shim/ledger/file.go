// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// initFile is the runc shim's name for the record of a container's init.
const initFile = "exit.json"

// maxRecord bounds what is read, in bytes; ours have some 150.
const maxRecord = 64 << 10

// isPlain tells whether an exec id is safe as part of a file's name. containerd
// lets clients use no others and at most 76 characters (pkg/identifiers), but
// whoever reaches the shim's socket can send any. Every resident shim would pay
// 100 KB for a regular expression in its place.
func isPlain(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// Record stores how a container's init ended. When it returns nil, the record is
// whole on disk and every reader sees it; when it returns an error, an older
// record stays as it was. The file has mode 0600 and is never written through a
// link. An Exit that cannot be is errdefs.ErrInvalidArgument.
//
// The directory is not synced: a record has to survive the shim and the daemon,
// while a machine that lost power has lost the container with it.
func Record(bundle string, e Exit) error {
	e.Exec = ""
	return record(bundle, initFile, e)
}

// RecordExec stores how an exec ended, as Record does. Any id will do that is
// not empty and that protobuf can carry, which is to say valid UTF-8.
func RecordExec(bundle, id string, e Exit) error {
	if err := checkExecID(id); err != nil {
		return fmt.Errorf("record exit: %w", err)
	}
	e.Exec = id
	return record(bundle, execFile(id), e)
}

// checkExecID refuses what no record can carry.
func checkExecID(id string) error {
	if id == "" || !utf8.ValidString(id) {
		return fmt.Errorf("the exec's id %q is empty or not UTF-8: %w", id, errdefs.ErrInvalidArgument)
	}
	return nil
}

func record(bundle, name string, e Exit) error {
	content, err := encode(e)
	if err != nil {
		return err
	}
	return write(bundle, name, content, true)
}

// Read returns the record of a container's init, written by this shim or the
// runc shim. None is errdefs.ErrNotFound, a damaged one a CorruptError, a newer
// one a VersionError.
func Read(bundle string) (Exit, error) { return readExit(bundle, initFile, "") }

// ReadExec returns the record of an exec, with Read's errors.
func ReadExec(bundle, id string) (Exit, error) { return readExit(bundle, execFile(id), id) }

func readExit(bundle, name, exec string) (Exit, error) {
	path := filepath.Join(bundle, name)
	b, err := read(path)
	if err != nil {
		return Exit{}, err
	}
	return decode(b, path, exec)
}

// RemoveExec forgets an exec; one that has no record is no error. Its birth goes
// first: an exec with a birth and no exit is one whose exit nobody was told.
func RemoveExec(bundle, id string) error {
	for _, name := range [...]string{birthOf(id), execFile(id)} {
		if err := os.Remove(filepath.Join(bundle, name)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove the records of exec %q: %w", id, err)
		}
	}
	return nil
}

func execFile(id string) string { return "exit" + execSuffix(id) }

// execSuffix maps ids to names, different ids to different names: '@' is in no
// plain id, so no id can pose as the hash of another.
func execSuffix(id string) string {
	if isPlain(id) {
		return "-" + id + ".json"
	}
	return fmt.Sprintf("@%x.json", sha256.Sum256([]byte(id)))
}

// write makes a new file beside the old one and renames it over that. All names
// are resolved in the bundle once opened, and a rename replaces a link, not what
// it points to.
func write(bundle, name string, content []byte, sync bool) error {
	dir, err := unix.Open(bundle, unix.O_DIRECTORY|unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(bundle, name, os.NewSyscallError("open bundle", err))
	}
	defer unix.Close(dir)

	temp := ".ledger." + strconv.FormatUint(rand.Uint64(), 36)
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fail(bundle, name, os.NewSyscallError("create", err))
	}
	err = fill(fd, content, sync)
	if err == nil {
		err = os.NewSyscallError("rename", unix.Renameat(dir, temp, dir, name))
	}
	if err != nil {
		_ = unix.Unlinkat(dir, temp, 0) // the first error tells more
		return fail(bundle, name, err)
	}
	return nil
}

// fill writes, syncs if asked to, and closes.
func fill(fd int, content []byte, sync bool) error {
	defer unix.Close(fd)
	for len(content) > 0 {
		n, err := unix.Write(fd, content)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		content = content[n:]
	}
	if !sync {
		return nil
	}
	return os.NewSyscallError("fsync", unix.Fsync(fd))
}

// read returns the content of a record.
func read(path string) ([]byte, error) {
	// O_NONBLOCK: a FIFO in the record's place must not hold the reader.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("no record %s: %w", path, errdefs.ErrNotFound)
	case errors.Is(err, unix.ELOOP):
		return nil, &CorruptError{path, errors.New("it is a symbolic link")}
	case err != nil:
		return nil, fmt.Errorf("read record: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, &CorruptError{path, fmt.Errorf("it is no file (%s)", info.Mode())}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("read record %s: %w", path, err)
	}
	if len(b) > maxRecord {
		return nil, &CorruptError{path, fmt.Errorf("more than %d bytes", maxRecord)}
	}
	return b, nil
}

func fail(bundle, name string, err error) error {
	return fmt.Errorf("write record %s: %w", filepath.Join(bundle, name), err)
}
