// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
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
// it could not deliver at once except for one borrowed buffer. At rest it has
// nothing but pending, and the next run goes on from there.
//
// Between pipes it splices once a buffer was filled, and goes back to buffers
// when little is left. A pipe has few slots (16): a spliced piece takes one
// however small it is, while written ones share. Splicing single lines would fill
// a client's pipe with 16 of them, and its room is what output waits in while
// nobody reads.
type copier struct {
	ctx      context.Context
	crew     *crew
	src, dst *os.File                       // dst nil: read and drop
	pty      bool                           // src is a terminal: EIO is no error
	sticky   bool                           // a failed dst ends the copying instead of dropping
	lastWord func(*os.File) ([]byte, error) // what dst is told at the end of src; may be nil
	onFail   func(error)                    // told the first failure of dst
	m        *meter

	pending []byte // taken, to be written before anything else is taken
	over    bool   // nothing more is taken
	told    bool   // dst has failed
	givenUp bool   // what is taken is dropped

	srcConn, dstConn syscall.RawConn
	take             func(fd uintptr) bool // the present way to take bytes: one of
	buffer, bulk     func(fd uintptr) bool // these two; bulk is nil if it cannot be spliced
	splice           func(dfd uintptr)
	last             attempt
	sfd              uintptr
}

// newCopier makes a copier for a worker of crew. ctx must have ended before src
// or dst is closed by somebody else; onFail is called in run's goroutine.
func newCopier(ctx context.Context, crew *crew, src, dst *os.File, m *meter, onFail func(error)) (*copier, error) {
	c := &copier{ctx: ctx, crew: crew, src: src, dst: dst, m: m, onFail: onFail, givenUp: dst == nil}
	var err error
	if c.srcConn, err = src.SyscallConn(); err != nil {
		return nil, fmt.Errorf("copying from %s: %w", src.Name(), err)
	}
	c.buffer = c.takeBuffer
	c.take = c.buffer
	if dst == nil {
		return c, nil
	}
	if c.dstConn, err = dst.SyscallConn(); err != nil {
		return nil, fmt.Errorf("copying to %s: %w", dst.Name(), err)
	}
	// Splicing with a file copies all the same, and one that hangs would keep
	// the pipe from being closed and its meter from being read.
	if src.SetReadDeadline(noDeadline) == nil && dst.SetWriteDeadline(noDeadline) == nil {
		c.bulk, c.splice = c.takeSplice, c.spliceOnce
	}
	return c, nil
}

// run copies until the source ends (nil) or fails, ctx has ended and the files
// are closed (os.ErrClosed), or the crew rests (errResting): then it may be
// called again. The meter is finished by the caller.
func (c *copier) run() error {
	err := c.loop()
	if err != nil && err != errResting && c.ctx.Err() != nil {
		return os.ErrClosed // a RawConn's error for it cannot be recognised
	}
	return err
}

func (c *copier) loop() error {
	if c.givenUp {
		c.bulk = nil
	}
	if err := c.awake(); err != nil {
		return err
	}
	for {
		if c.crew.resting.Load() { // a file can be copied without a wait
			return errResting
		}
		done, err := c.step()
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			done, err = false, c.awake()
		}
		if done || err != nil {
			return err
		}
	}
}

// rouse ends the wait of run.
func (c *copier) rouse() {
	_ = c.src.SetReadDeadline(pastDeadline)
	if c.dst != nil {
		_ = c.dst.SetWriteDeadline(pastDeadline)
	}
}

// awake acts on a deadline that has passed: the crew's, for a rest; Finish's,
// for the end of the source; Drain's, for one more look. They are removed
// first, so that one which comes then is seen.
func (c *copier) awake() error {
	if err := c.crew.awake(c.src, c.dst); err != nil {
		return err
	}
	if c.m.isCut() {
		c.over = true
	}
	return nil
}

// step delivers what is pending, or takes something and delivers that.
func (c *copier) step() (done bool, err error) {
	switch {
	case len(c.pending) > 0:
		return c.write(c.pending)
	case c.over:
		return true, nil
	}
	if err := c.srcConn.Read(c.take); err != nil {
		return true, err
	}
	return c.settle()
}

// settle acts on the last attempt and reports whether copying is over.
func (c *copier) settle() (done bool, err error) {
	a := c.last
	c.last = attempt{}
	switch a.verdict {
	case ended:
		return c.end()
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

// end notes that the source has ended, and has dst told.
func (c *copier) end() (done bool, err error) {
	c.over = true
	if c.lastWord == nil {
		return true, nil
	}
	c.pending, err = c.lastWord(c.dst)
	c.m.take(len(c.pending))
	return len(c.pending) == 0, err
}

// write delivers b, or drops what dst does not take. What cannot be delivered
// before a deadline stays pending.
func (c *copier) write(b []byte) (done bool, err error) {
	n := 0
	if !c.givenUp {
		n, err = c.dst.Write(b)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.pending = bytes.Clone(b[n:])
		c.m.deliver(n, 0)
		return false, err
	}
	c.pending = nil
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
	c.givenUp, c.take, c.bulk = true, c.buffer, nil
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
