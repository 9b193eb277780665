// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// crashGrace is how long a program that closed its descriptor may take to
// become a zombie, for the sake of a better message.
const crashGrace = 200 * time.Millisecond

var errNoFailure = errors.New("exit status 0")

// logger is a running logging program.
type logger struct {
	io    *IO
	path  string
	pid   int
	reap  func() error  // called once it has ended
	leave func() error  // called instead when somebody else will reap it; may be nil
	ended chan struct{} // closed once it is reaped; err is set before
	err   error
	ready chan struct{} // closed once it has said that it is ready
}

// newLogger makes what stands for the program at path.
func newLogger(i *IO, path string) *logger {
	return &logger{io: i, path: path, ended: make(chan struct{}), ready: make(chan struct{})}
}

// openLogger makes the pipes, starts the program and waits until it is ready.
// The shim keeps the reading ends, unread: they tell what the program has left,
// and keep the process from SIGPIPE when the program dies.
func (i *IO) openLogger(ctx context.Context, t target) error {
	if i.opts.Children == nil {
		return fmt.Errorf("logger %s: there is nobody to start it: %w", t.path, errdefs.ErrFailedPrecondition)
	}
	program, err := permittedLogger(t.path, i.opts.LoggerDirs)
	if err != nil {
		return err
	}
	if err := i.loggerPipes(); err != nil {
		return err
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("logger %s: %w", t.path, err)
	}
	defer readyR.Close()

	cmd := exec.Command(program, t.args...)
	cmd.Args[0] = t.path
	cmd.Env = []string{"CONTAINER_ID=" + i.opts.ID, "CONTAINER_NAMESPACE=" + i.opts.Namespace}
	cmd.ExtraFiles = []*os.File{i.fds.get(loggerStdout), i.fds.get(loggerStderr), readyW}
	l := newLogger(i, t.path)
	err = l.start(cmd)
	_ = readyW.Close() // only the program may hold it
	if err != nil {
		return err
	}
	i.logger = l
	i.crew.add(l)
	if err := l.awaitReady(ctx, readyR, t.kind == kindBinaryV2); err != nil {
		return errors.Join(err, l.kill())
	}
	close(l.ready)
	return nil
}

// loggerPipes makes the pipes that a logger reads. The process writes to them;
// with a terminal the shim does, and the second one is at its end from the
// beginning.
func (i *IO) loggerPipes() error {
	for _, p := range []struct {
		name           string
		r, child, sink slot
	}{{"stdout", loggerStdout, childStdout, stdoutSink}, {"stderr", loggerStderr, childStderr, stderrSink}} {
		r, w, err := newPipe(p.name, i.opts.UID, i.opts.GID)
		if err != nil {
			return err
		}
		to := p.child
		if i.terminal {
			to = p.sink
			if w, err = pollable(w); err != nil {
				return errors.Join(err, r.Close())
			}
		}
		if err := errors.Join(i.fds.put(p.r, r), i.fds.put(to, w)); err != nil {
			return err
		}
	}
	if i.terminal {
		return i.fds.close(stderrSink)
	}
	return nil
}

// start starts the program and gets hold of it.
func (l *logger) start(cmd *exec.Cmd) error {
	children := l.io.opts.Children
	if err := children.Start(cmd); err != nil {
		return fmt.Errorf("starting logger %s: %w", l.path, err)
	}
	l.pid = cmd.Process.Pid
	l.reap, l.leave = func() error { return children.Wait(cmd) }, cmd.Process.Release
	// With its own pidfd the wait for its end sits in the poller; os/exec's
	// would block a thread for as long as the container lives.
	fd, err := unix.PidfdOpen(l.pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return errors.Join(fmt.Errorf("watching logger %s: %w", l.path, os.NewSyscallError("pidfd_open", err)),
			cmd.Process.Kill(), l.reap())
	}
	return l.io.fds.put(loggerPidfd, os.NewFile(uintptr(fd), "pidfd"))
}

// awaitReady waits for the handshake: a byte, or for the first version also EOF.
func (l *logger) awaitReady(ctx context.Context, ready *os.File, strict bool) error {
	if err := ready.SetReadDeadline(time.Now().Add(l.timeout())); err != nil {
		return fmt.Errorf("logger %s: %w", l.path, err)
	}
	defer context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(pastDeadline) })()
	n, err := ready.Read(make([]byte, 1))
	switch {
	case n == 1:
		return nil
	case errors.Is(err, io.EOF) && !strict:
		return nil
	case errors.Is(err, io.EOF):
		how := errors.New("it closed the descriptor and runs on")
		if l.await(crashGrace) {
			how = fmt.Errorf("it may have crashed or exited prematurely: %w", cmp.Or(l.err, errNoFailure))
		}
		return fmt.Errorf("logger %s did not call ready (%w): %w", l.path, how, errdefs.ErrFailedPrecondition)
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for logger %s to be ready: %w", l.path, ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("logger %s was not ready within %v: %w", l.path, l.timeout(), context.DeadlineExceeded)
	}
	return fmt.Errorf("waiting for logger %s to be ready: %w", l.path, err)
}

// timeout bounds the ready handshake and the program's end.
func (l *logger) timeout() time.Duration { return l.io.deadlines.Logger }

// readers are the shim's references to the ends that the program reads.
func (l *logger) readers() []*os.File {
	return []*os.File{l.io.fds.get(loggerStdout), l.io.fds.get(loggerStderr)}
}

func (l *logger) String() string { return "the watch over logger " + l.path }

func (l *logger) rouse() {
	if f := l.io.fds.get(loggerPidfd); f != nil {
		_ = f.SetReadDeadline(pastDeadline)
	}
}

// work reaps the program. If it ends while the process can still write, the
// process must neither block nor be killed by SIGPIPE: what it writes is read
// and dropped from then on.
func (l *logger) work() (done bool) {
	i := l.io
	if err := l.awaitEnd(); err == errResting {
		return false
	}
	select {
	case <-i.ctx.Done(): // Close ended it, or Open failed
		return true
	case <-l.ready:
	}
	for _, s := range []slot{loggerStdout, loggerStderr} {
		f := i.fds.get(s)
		if f == nil {
			continue
		}
		if events, err := pollNow(f, unix.POLLIN); err == nil && events&unix.POLLIN == 0 && events&unix.POLLHUP != 0 {
			continue // all was written and all was read
		}
		i.log.WithError(l.err).WithField("stream", f.Name()).WithField("logger", l.path).
			Warn("logger ended before the output; output is dropped")
		if err := i.dropFrom(s); err != nil && !errors.Is(err, os.ErrClosed) {
			i.log.WithError(err).Warn("output of a dead logger cannot be read")
		}
	}
	return true
}

// awaitEnd waits for the program in the poller and reaps it.
func (l *logger) awaitEnd() error {
	pidfd := l.io.fds.get(loggerPidfd)
	if err := l.io.crew.awake(pidfd, nil); err != nil {
		return err
	}
	conn, err := pidfd.SyscallConn()
	for err == nil {
		err = conn.Read(func(fd uintptr) bool {
			events, err := pollFD(fd, unix.POLLIN)
			return events != 0 || err != nil
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err = l.io.crew.awake(pidfd, nil); err == errResting {
			return err
		}
	}
	// Whatever became of the wait: this one blocks a thread, but is right.
	l.err = errors.Join(err, l.reap())
	_ = l.io.fds.close(loggerPidfd)
	close(l.ended)
	return nil
}

// signal sends sig; that the program has ended is no error.
func (l *logger) signal(sig syscall.Signal) error {
	pidfd := l.io.fds.get(loggerPidfd)
	if pidfd == nil {
		return nil
	}
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return fmt.Errorf("sending %v to logger %s: %w", sig, l.path, err)
	}
	var sigErr error
	err = conn.Control(func(fd uintptr) { sigErr = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if err != nil || errors.Is(sigErr, unix.ESRCH) { // closed, for it is reaped; or dead
		return nil
	}
	if sigErr != nil {
		return fmt.Errorf("sending %v to logger %s: %w", sig, l.path, sigErr)
	}
	return nil
}
