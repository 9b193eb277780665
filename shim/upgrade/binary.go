// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// CheckFlag, with the number of a descriptor, is the command line of a binary that is
// asked whether it can take over from the envelope that the descriptor is, or with 0
// what it can take over at all. It answers on its standard output, see Answer.
const CheckFlag = "takeover-check"

// envelopeFD is the envelope's in a check.
const envelopeFD = 3

// binaryFD is above what a child's own descriptors, which are made before the
// binary is executed by its number, can overwrite.
const binaryFD = 64

// Answer is what a binary says to CheckFlag, as JSON.
type Answer struct {
	// Versions of the state that it reads and writes.
	Versions []int `json:"versions"`
	// Version and Revision of the build.
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	// Envelope says that there was one and that it can be taken over from.
	Envelope bool `json:"envelope"`
}

// Binary is a program that was looked at. It is executed by its descriptor: what
// was checked is what runs, whatever becomes of the path.
type Binary struct {
	path string
	fd   int
}

// Find opens the program at path. It is errdefs.ErrInvalidArgument unless the path
// is absolute and leads to a regular executable file that nobody but this user
// (root, usually) can change.
func Find(path string) (*Binary, error) {
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("binary %q is not an absolute path: %w", path, errdefs.ErrInvalidArgument)
	}
	b, err := openBinary(filepath.Clean(path))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("binary %s does not exist: %w", path, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return nil, fmt.Errorf("open binary: %w", err)
	}
	if err := b.check(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Self is the program that this process runs, whatever has become of its path.
func Self() (*Binary, error) {
	b, err := openBinary("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("open the shim's own executable: %w", err)
	}
	return b, nil
}

func openBinary(path string) (*Binary, error) {
	low, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(low)
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, binaryFD)
	if err != nil {
		return nil, &os.PathError{Op: "fcntl", Path: path, Err: err}
	}
	return &Binary{path: path, fd: fd}, nil
}

func (b *Binary) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(b.fd, &st); err != nil {
		return fmt.Errorf("stat binary %s: %w", b.path, err)
	}
	refuse := func(why string) error {
		return fmt.Errorf("binary %s %s: %w", b.path, why, errdefs.ErrInvalidArgument)
	}
	switch uid := os.Geteuid(); {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return refuse("is not a regular file")
	case int(st.Uid) != uid && st.Uid != 0:
		return refuse(fmt.Sprintf("belongs to uid %d and must belong to uid %d", st.Uid, uid))
	case st.Mode&0o022 != 0:
		return refuse(fmt.Sprintf("has mode %04o and can be changed by others", st.Mode&0o7777))
	case st.Mode&0o111 == 0:
		return refuse(fmt.Sprintf("has mode %04o and is not executable", st.Mode&0o7777))
	}
	return nil
}

// Close gives the descriptor up.
func (b *Binary) Close() { _ = unix.Close(b.fd) }

// name is what execve is given.
func (b *Binary) name() string { return fmt.Sprintf("/proc/self/fd/%d", b.fd) }

// Command prepares a run of the binary as a child. Its first argument is the
// present program's, so that it looks like it.
func (b *Binary) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.name(), args...)
	cmd.Args[0] = os.Args[0]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// Exec makes the process go on as the binary. It returns only an error, and must
// be called on the process's first thread: the end of another one than the
// caller's would be the death of a parent to the children that hang on it.
func (b *Binary) Exec(args, env []string) error {
	return &os.PathError{Op: "execve", Path: b.path, Err: syscall.Exec(b.name(), args, env)}
}

// Children starts and waits for a child.
type Children interface {
	Start(*exec.Cmd) error
	Wait(*exec.Cmd) error
}

// maxAnswer bounds what is kept of a check's output and of its complaints.
const maxAnswer = 16 << 10

// checkGrace is how long a killed check may take to be gone.
const checkGrace = time.Second

// Check runs the binary once, until ctx ends, and asks what it can take over.
// With an envelope it says whether it can take over from that one. Whatever is
// wrong with the binary is errdefs.ErrFailedPrecondition.
func (b *Binary) Check(ctx context.Context, children Children, envelope *os.File) (Answer, error) {
	fd := 0
	if envelope != nil {
		fd = envelopeFD
	}
	cmd := b.Command(ctx, fmt.Sprintf("-%s=%d", CheckFlag, fd))
	cmd.Dir = "/"
	cmd.WaitDelay = checkGrace
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	said, complained := &bounded{left: maxAnswer}, &bounded{left: maxAnswer}
	cmd.Stdout, cmd.Stderr = said, complained
	if envelope != nil {
		cmd.ExtraFiles = []*os.File{envelope}
	}
	err := children.Start(cmd)
	if err == nil {
		err = children.Wait(cmd)
	}
	var a Answer
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("it did not answer in time: %w", ctx.Err())
	case err != nil:
		err = fmt.Errorf("%w: %s", err, complaint(complained.buf.String()))
	default:
		err = json.Unmarshal(said.buf.Bytes(), &a)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("binary %s cannot take over: %w: %w", b.path, err, errdefs.ErrFailedPrecondition)
	}
	if envelope != nil && !a.Envelope {
		return Answer{}, fmt.Errorf("binary %s cannot take over: it has not read the envelope: %w", b.path, errdefs.ErrFailedPrecondition)
	}
	return a, nil
}

// complaint is the last line of what a process said.
func complaint(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// bounded keeps the beginning of what is written.
type bounded struct {
	buf  bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.buf.Write(p[:n])
	b.left -= n
	return len(p), nil
}
