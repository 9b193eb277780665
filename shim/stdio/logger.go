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
	path     string
	cmd      *exec.Cmd
	children Children
	pidfd    *os.File      // readable once the program has ended
	ended    chan struct{} // closed once it is reaped; err is set before
	err      error
	ready    chan struct{} // closed once it has said that it is ready
	timeout  time.Duration
	readers  func() []*os.File // the shim's references to the ends it reads
}

// openLogger makes the pipes, starts the program and waits until it is ready.
// The shim keeps the reading ends, unread: they tell what the program has left,
// and keep the process from SIGPIPE when the program dies.
func (i *IO) openLogger(ctx context.Context, t target) error {
	if i.opts.Children == nil {
		return fmt.Errorf("logger %s: there is nobody to start it: %w", t.path, errdefs.ErrFailedPrecondition)
	}
	if err := i.loggerPipes(); err != nil {
		return err
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("logger %s: %w", t.path, err)
	}
	defer readyR.Close()

	cmd := exec.Command(t.path, t.args...)
	cmd.Env = []string{"CONTAINER_ID=" + i.opts.ID, "CONTAINER_NAMESPACE=" + i.opts.Namespace}
	cmd.ExtraFiles = []*os.File{i.fds.get(loggerStdout), i.fds.get(loggerStderr), readyW}
	l := &logger{path: t.path, cmd: cmd, children: i.opts.Children, timeout: i.deadlines.Logger, ready: make(chan struct{}), ended: make(chan struct{})}
	l.readers = func() []*os.File { return []*os.File{i.fds.get(loggerStdout), i.fds.get(loggerStderr)} }
	err = l.start()
	_ = readyW.Close() // only the program may hold it
	if err != nil {
		return err
	}
	i.logger = l
	i.wg.Go(func() { i.watchLogger(l) })
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
func (l *logger) start() error {
	if err := l.children.Start(l.cmd); err != nil {
		return fmt.Errorf("starting logger %s: %w", l.path, err)
	}
	// With its own pidfd the wait for its end sits in the poller; os/exec's
	// would block a thread for as long as the container lives.
	fd, err := unix.PidfdOpen(l.cmd.Process.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return errors.Join(fmt.Errorf("watching logger %s: %w", l.path, os.NewSyscallError("pidfd_open", err)),
			l.cmd.Process.Kill(), l.children.Wait(l.cmd))
	}
	l.pidfd = os.NewFile(uintptr(fd), "pidfd")
	return nil
}

// awaitReady waits for the handshake: a byte, or for the first version also EOF.
func (l *logger) awaitReady(ctx context.Context, ready *os.File, strict bool) error {
	if err := ready.SetReadDeadline(time.Now().Add(l.timeout)); err != nil {
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
		return fmt.Errorf("logger %s was not ready within %v: %w", l.path, l.timeout, context.DeadlineExceeded)
	}
	return fmt.Errorf("waiting for logger %s to be ready: %w", l.path, err)
}

// awaitEnd waits for the program in the poller and reaps it.
func (l *logger) awaitEnd() {
	defer close(l.ended)
	defer l.pidfd.Close()
	conn, err := l.pidfd.SyscallConn()
	if err == nil {
		err = conn.Read(func(fd uintptr) bool {
			events, err := pollFD(fd, unix.POLLIN)
			return events != 0 || err != nil
		})
	}
	// Whatever became of the wait: this one blocks a thread, but is right.
	l.err = errors.Join(err, l.children.Wait(l.cmd))
}

// watchLogger reaps the program. If it ends while the process can still write,
// the process must neither block nor be killed by SIGPIPE: what it writes is
// read and dropped from then on.
func (i *IO) watchLogger(l *logger) {
	l.awaitEnd()
	select {
	case <-i.ctx.Done(): // Close ended it, or Open failed
		return
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
		i.wg.Go(func() { i.dropFrom(s) })
	}
}

// dropFrom empties the pipe of a dead logger until its writers are gone.
func (i *IO) dropFrom(s slot) {
	// The descriptor's flags were shared with the program, which minds no more.
	src, err := i.fds.swap(s, pollable)
	if err == nil {
		var c *copier
		if c, err = newCopier(i.ctx, src, nil, new(meter), nil); err == nil {
			err = c.run()
		}
	}
	if err != nil && !errors.Is(err, os.ErrClosed) {
		i.log.WithError(err).Warn("output of a dead logger cannot be read")
	}
}

// signal sends sig; that the program has ended is no error.
func (l *logger) signal(sig syscall.Signal) error {
	if err := l.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("sending %v to logger %s: %w", sig, l.path, err)
	}
	return nil
}
