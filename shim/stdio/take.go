// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"os"

	"golang.org/x/sys/unix"
)

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
