// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// spliceMax bounds one splice; a pipe rarely holds more.
	spliceMax = 1 << 20
	// bufferSize is of one borrowed buffer: a page, of which a pipe's capacity
	// consists, and about what one read of a terminal yields.
	bufferSize = 4 << 10
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// verdict is how one attempt to take bytes ended.
type verdict int

const (
	took    verdict = iota // bytes were taken
	ended                  // the source has ended
	full                   // the destination has no room
	refused                // this pair of files cannot be spliced
	failed                 // the destination failed (attempt.err)
	unread                 // the source failed (attempt.err)
)

// attempt is the result of one try.
type attempt struct {
	verdict verdict
	n       int
	buf     *[bufferSize]byte // holds the n bytes; nil after a splice
	err     error
}

// copier moves bytes from src to dst in one goroutine until src ends. It loses
// no byte while dst works, waits for room in the poller, and takes nothing that
// it could not deliver at once except for one borrowed buffer.
//
// Between pipes it splices once a buffer was filled, and goes back to buffers
// when little is left. A pipe has few slots (16): a spliced piece takes one
// however small it is, while written ones share. Splicing single lines would fill
// a client's pipe with 16 of them, and its room is what output waits in while
// nobody reads.
type copier struct {
	ctx      context.Context
	src, dst *os.File    // dst nil: read and drop
	pty      bool        // src is a terminal: EIO is no error
	buffered bool        // do not try to splice
	sticky   bool        // a failed dst ends the copying instead of dropping
	onFail   func(error) // told the first failure of dst
	m        *meter

	srcConn, dstConn syscall.RawConn
	take             func(fd uintptr) bool // the present way to take bytes: one of
	buffer, bulk     func(fd uintptr) bool // these two; bulk is nil if it cannot be spliced
	splice           func(dfd uintptr)
	last             attempt
	sfd              uintptr
	told             bool
}

// newCopier makes a copier. ctx must have ended before src or dst is closed by
// somebody else; onFail is called in run's goroutine.
func newCopier(ctx context.Context, src, dst *os.File, m *meter, onFail func(error)) (*copier, error) {
	c := &copier{ctx: ctx, src: src, dst: dst, m: m, onFail: onFail}
	var err error
	if c.srcConn, err = src.SyscallConn(); err != nil {
		return nil, fmt.Errorf("copying from %s: %w", src.Name(), err)
	}
	c.buffer = c.takeBuffer
	c.take = c.buffer
	if dst != nil {
		if c.dstConn, err = dst.SyscallConn(); err != nil {
			return nil, fmt.Errorf("copying to %s: %w", dst.Name(), err)
		}
		c.bulk, c.splice = c.takeSplice, c.spliceOnce
	}
	return c, nil
}

// run copies until the source ends (nil) or fails, or ctx has ended and the
// files are closed (os.ErrClosed). The meter is finished by the caller.
func (c *copier) run() error {
	err := c.loop()
	if err != nil && c.ctx.Err() != nil {
		return os.ErrClosed // a RawConn's error for it cannot be recognised
	}
	return err
}

func (c *copier) loop() error {
	if c.buffered {
		c.bulk = nil
	}
	for {
		err := c.srcConn.Read(c.take)
		if errors.Is(err, os.ErrDeadlineExceeded) { // Drain asks for one more look, Finish for the end
			if c.m.isCut() {
				return nil
			}
			if err = c.src.SetReadDeadline(noDeadline); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if done, err := c.settle(); done {
			return err
		}
	}
}

// settle acts on the last attempt and reports whether copying is over.
func (c *copier) settle() (done bool, err error) {
	a := c.last
	c.last = attempt{}
	switch a.verdict {
	case ended:
		return true, nil
	case unread:
		return true, a.err
	case refused:
		c.take, c.bulk = c.buffer, nil
		return false, nil
	case full:
		if err := c.awaitRoom(); err != nil {
			return true, err
		}
		return false, nil
	case failed:
		return c.fail(a.err)
	}
	c.take = c.buffer
	if a.n >= bufferSize && c.bulk != nil {
		c.take = c.bulk
	}
	if a.buf == nil {
		return false, nil
	}
	defer buffers.Put(a.buf)
	return c.write(a.buf[:a.n])
}

// write delivers a buffer, or drops what dst does not take.
func (c *copier) write(b []byte) (done bool, err error) {
	n := 0
	if c.dst != nil {
		n, err = c.dst.Write(b)
	}
	c.m.deliver(len(b), len(b)-n)
	if err != nil {
		return c.fail(err)
	}
	return false, nil
}

// fail decides what follows a failure of dst. A full disk may have room again,
// so a file is tried again with the next bytes.
func (c *copier) fail(err error) (done bool, _ error) {
	if c.ctx.Err() != nil || c.sticky {
		return true, err
	}
	if !c.told {
		c.told = true
		c.onFail(err)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return false, nil
	}
	c.dst, c.take, c.bulk = nil, c.buffer, nil
	return false, nil
}

// awaitRoom waits until dst can be written to or has failed. The look comes
// after the poller is armed, so no edge is missed.
func (c *copier) awaitRoom() error {
	var pollErr error
	err := c.dstConn.Write(func(fd uintptr) bool {
		var events int16
		events, pollErr = pollFD(fd, unix.POLLOUT)
		return events != 0 || pollErr != nil
	})
	return errors.Join(err, pollErr)
}

// takeSplice is a RawConn.Read callback: false waits for the source.
func (c *copier) takeSplice(sfd uintptr) bool {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.sfd = sfd
	if err := c.dstConn.Control(c.splice); err != nil {
		c.last = attempt{verdict: failed, err: err}
	}
	switch {
	case c.last.verdict == took:
		c.m.taken += uint64(c.last.n)
		c.m.delivered += uint64(c.last.n)
		c.m.notifyLocked()
	case c.last.verdict == full:
		return c.tellFullLocked(sfd)
	}
	return true
}

// tellFullLocked finds out what EAGAIN meant, which the kernel does not say: a
// full destination (true), an empty source (false: wait for it), or even the
// end of the source, if the destination is full as well.
func (c *copier) tellFullLocked(sfd uintptr) bool {
	events, err := pollFD(sfd, unix.POLLIN)
	switch {
	case err != nil:
		c.last = attempt{verdict: unread, err: os.NewSyscallError("poll", err)}
	case events&unix.POLLIN != 0:
	case events&unix.POLLHUP != 0:
		c.last = attempt{verdict: ended}
	default:
		c.emptyLocked()
		return false
	}
	return true
}

// spliceOnce moves what it can from c.sfd to dfd.
func (c *copier) spliceOnce(dfd uintptr) {
	for {
		n, err := unix.Splice(int(c.sfd), nil, int(dfd), nil, spliceMax, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			c.last = attempt{verdict: full}
		case err == unix.EINVAL:
			c.last = attempt{verdict: refused}
		case err != nil:
			c.last = attempt{verdict: failed, err: os.NewSyscallError("splice", err)}
		case n == 0:
			c.last = attempt{verdict: ended}
		default:
			c.last = attempt{verdict: took, n: int(n)}
		}
		return
	}
}

// takeBuffer is a RawConn.Read callback: false waits for the source, and holds
// no buffer meanwhile.
func (c *copier) takeBuffer(sfd uintptr) bool {
	buf := buffers.Get().(*[bufferSize]byte)
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	n, err := unix.Read(int(sfd), buf[:])
	for err == unix.EINTR {
		n, err = unix.Read(int(sfd), buf[:])
	}
	if n > 0 {
		c.m.taken += uint64(n)
		c.last = attempt{verdict: took, n: n, buf: buf}
		return true
	}
	buffers.Put(buf)
	// A terminal says EIO while no process has it open. That ends it only when
	// the process has exited: until then the process may open it again.
	hangup := err == unix.EIO && c.pty
	switch {
	case err == unix.EAGAIN, hangup && !c.m.exited:
		c.emptyLocked()
		return false
	case err == nil, hangup:
		c.last = attempt{verdict: ended}
	default:
		c.last = attempt{verdict: unread, err: os.NewSyscallError("read", err)}
	}
	return true
}

// emptyLocked notes an empty source; all that was taken before is delivered.
func (c *copier) emptyLocked() {
	c.m.empties++
	c.m.notifyLocked()
}

// queued returns how many bytes can be read from fd at once (FIONREAD).
func queued(fd uintptr) int {
	n, err := unix.IoctlGetUint32(int(fd), unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return int(n)
}
