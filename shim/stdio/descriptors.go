// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// slot names one descriptor of an IO.
type slot int

const (
	childStdin slot = iota // the ends that the process gets; closed by Started
	childStdout
	childStderr
	stdinSource  // reading end of the client's stdin
	stdinKeeper  // writing end of the same named pipe, until CloseStdin
	stdinSink    // writing end of the process's stdin pipe
	stdoutSource // reading end of the process's stdout pipe
	stdoutSink   // writing end of the client's named pipe or of a logger's pipe; a file
	stdoutKeeper // reading end of the client's named pipe
	stderrSource
	stderrSink
	stderrKeeper
	loggerStdout // reading ends of a logger's pipes
	loggerStderr
	consoleMaster
	loggerPidfd // readable once the logger has ended; closed when it is reaped
	numSlots
)

// slotNames are those in a State.
var slotNames = [numSlots]string{
	"childStdin", "childStdout", "childStderr",
	"stdinSource", "stdinKeeper", "stdinSink",
	"stdoutSource", "stdoutSink", "stdoutKeeper",
	"stderrSource", "stderrSink", "stderrKeeper",
	"loggerStdout", "loggerStderr", "consoleMaster", "loggerPidfd",
}

func (s slot) String() string { return slotNames[s] }

// descriptors are all the descriptors that an IO holds between calls, but the
// console's socket, in one plain table. Each is close-on-exec. Methods are safe for concurrent use.
type descriptors struct {
	// closing is read-locked while files that have left the table are being closed,
	// and taken before mu.
	closing sync.RWMutex

	mu     sync.Mutex
	files  [numSlots]*os.File
	sealed bool
}

// put stores f. After seal it closes f instead and says os.ErrClosed.
func (d *descriptors) put(s slot, f *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sealed {
		return errors.Join(os.ErrClosed, f.Close())
	}
	d.files[s] = f
	return nil
}

// get returns the file of s, nil when there is none.
func (d *descriptors) get(s slot) *os.File {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[s]
}

// swap replaces the file of s by what change makes of it; change owns the old
// one even if it fails.
func (d *descriptors) swap(s slot, change func(*os.File) (*os.File, error)) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sealed || d.files[s] == nil {
		return nil, os.ErrClosed
	}
	f, err := change(d.files[s])
	d.files[s] = f
	return f, err
}

// close closes what the slots hold and empties them. What another call has taken out
// of the same slots may be open for a while yet: see settle.
func (d *descriptors) close(slots ...slot) error {
	d.closing.RLock()
	defer d.closing.RUnlock()
	d.mu.Lock()
	var files []*os.File
	for _, s := range slots {
		if f := d.files[s]; f != nil {
			files = append(files, f)
			d.files[s] = nil
		}
	}
	d.mu.Unlock()
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// settle returns once everything is closed that a call of close which has begun takes
// out of the table.
func (d *descriptors) settle() {
	d.closing.Lock()
	defer d.closing.Unlock() // to have had it is all
}

// seal makes every later put fail.
func (d *descriptors) seal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sealed = true
}

// newPipe makes a pipe whose ends block, as a program expects of what it
// inherits, and are close-on-exec. It has the given owner unless that is root,
// so that a process with another user id can open its /dev/stdout.
func newPipe(name string, uid, gid int) (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("making a pipe for %s: %w", name, err)
	}
	r, w = os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	if uid != 0 || gid != 0 {
		if err := unix.Fchown(fds[0], uid, gid); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("giving the %s pipe to %d:%d: %w", name, uid, gid, err), r.Close(), w.Close())
		}
	}
	return r, w, nil
}

// pollable moves f's descriptor to a file whose waits sit in Go's poller, and
// closes f. The descriptor's open file description becomes non-blocking, so
// nobody else may be using it.
func pollable(f *os.File) (*os.File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	fd, dupErr := -1, error(nil)
	err = conn.Control(func(old uintptr) {
		if dupErr = unix.SetNonblock(int(old), true); dupErr == nil {
			fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
		}
	})
	if err = errors.Join(err, dupErr); err != nil {
		return nil, errors.Join(fmt.Errorf("making %s non-blocking: %w", f.Name(), err), f.Close())
	}
	_ = f.Close() // a duplicate is open: this only drops one reference
	return os.NewFile(uintptr(fd), f.Name()), nil
}
