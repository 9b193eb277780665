// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// noDeadline removes a file's deadline.
var noDeadline time.Time

// pastDeadline wakes a file's reader at once.
var pastDeadline = time.Unix(1, 0)

// socketName is the socket's in its directory.
const socketName = "s"

// maxSocketPath is what sockaddr_un holds, less the final NUL.
const maxSocketPath = 107

// consoleSocket is the socket to which the OCI runtime sends a terminal's
// master, in a directory of its own that only its owner can enter.
type consoleSocket struct {
	dir, path string
	listener  *net.UnixListener
}

// listenConsole makes the socket below dir.
func listenConsole(dir string) (*consoleSocket, error) {
	own, err := os.MkdirTemp(dir, "c")
	if err != nil {
		return nil, fmt.Errorf("making the console's directory: %w", err)
	}
	s := &consoleSocket{dir: own, path: filepath.Join(own, socketName)}
	if len(s.path) > maxSocketPath {
		return nil, errors.Join(fmt.Errorf("console socket %q is longer than %d bytes, use a shorter state directory: %w",
			s.path, maxSocketPath, errdefs.ErrInvalidArgument), os.RemoveAll(own))
	}
	s.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening for the console: %w", err), os.RemoveAll(own))
	}
	return s, nil
}

// close removes the socket. It may be called again.
func (s *consoleSocket) close() error {
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// abandon closes the listener and leaves the socket to another process.
func (s *consoleSocket) abandon() error {
	s.listener.SetUnlinkOnClose(false)
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// receive waits for the terminal until ctx ends.
func (s *consoleSocket) receive(ctx context.Context) (*os.File, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.listener.SetDeadline(pastDeadline) })
	defer stop()
	conn, err := s.listener.AcceptUnix()
	if err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	defer conn.Close()
	stopConn := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(pastDeadline) })
	defer stopConn()
	name := make([]byte, 4096) // the runtime sends the terminal's name along
	oob := make([]byte, unix.CmsgSpace(4*4))
	_, n, flags, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	fds, err := rights(oob[:n])
	if err == nil && (len(fds) != 1 || flags&unix.MSG_CTRUNC != 0) {
		err = fmt.Errorf("%d descriptors instead of one", len(fds))
	}
	if err == nil {
		_, err = unix.IoctlGetTermios(fds[0], unix.TCGETS)
	}
	if err == nil {
		err = unix.SetNonblock(fds[0], true)
	}
	if err != nil {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("the OCI runtime sent no usable terminal: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}

// rights returns the descriptors in a message's control data. Go has received
// them close-on-exec.
func rights(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		some, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, err
		}
		fds = append(fds, some...)
	}
	return fds, nil
}

// receiveConsole takes the terminal from the OCI runtime and removes the socket.
func (i *IO) receiveConsole(ctx context.Context) error {
	if i.socket == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, i.deadlines.Console)
	defer cancel()
	f, err := i.socket.receive(ctx)
	if err != nil {
		return fmt.Errorf("receiving the terminal of %q: %w", i.opts.ID, err)
	}
	return errors.Join(i.fds.put(consoleMaster, f), i.socket.close())
}

// Resize sets the terminal's size in characters. Without a terminal, or before
// Started and after Close, it does nothing.
func (i *IO) Resize(width, height uint16) error {
	f := i.fds.get(consoleMaster)
	if f == nil {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("resizing the terminal of %q: %w", i.opts.ID, err)
	}
	var ctlErr error
	err = conn.Control(func(fd uintptr) {
		ctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	if err := errors.Join(err, ctlErr); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("resizing the terminal of %q: %w", i.opts.ID, err)
	}
	return nil
}

// endOfInput is what tells someone who reads a terminal line by line that its
// input has ended. A terminal cannot be half closed; closing all of it, as the
// runc shim does, would hang up on the process and lose its output. Twice,
// because the first only ends a line that has been begun.
func endOfInput(master *os.File) ([]byte, error) {
	conn, err := master.SyscallConn()
	if err != nil {
		return nil, err
	}
	var termios *unix.Termios
	var ctlErr error
	if err := conn.Control(func(fd uintptr) { termios, ctlErr = unix.IoctlGetTermios(int(fd), unix.TCGETS) }); err != nil {
		return nil, err
	}
	if ctlErr != nil || termios.Lflag&unix.ICANON == 0 {
		return nil, ctlErr
	}
	eof := termios.Cc[unix.VEOF]
	return []byte{eof, eof}, nil
}
