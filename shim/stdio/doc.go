// SPDX-License-Identifier: Apache-2.0

// Package stdio owns the standard streams of one container process: the pipes
// or the terminal that the process has, the named pipes, files and logging
// programs that a client named for them, and the copying in between. It does
// not run the OCI runtime, does not watch the process and keeps no exit status.
//
// # Who holds what
//
// The process gets one end of a pipe (or a terminal) and never a client's named
// pipe or file itself, so that a client that goes away, a full disk or a slow
// reader is the shim's concern and not a SIGPIPE in the container. The shim
// holds both ends of a client's named pipe. A reader that vanishes, as when the
// daemon restarts, therefore breaks nothing: what it has not read waits in the
// kernel, and the process waits once the pipes are full. When the process has
// ended while no reader is there, its last output waits in the same way until
// one comes or the IO is closed.
//
// # Copying
//
// Bytes go from pipe to pipe by splice(2) and touch no memory of the shim; a
// terminal and a file need a buffer, which is borrowed from a pool for the time
// of one read and write. Every wait sits in Go's poller: an idle stream costs a
// parked goroutine and nothing else. A destination that fails (ENOSPC, EPIPE)
// is reported once in the log and from then on the output is read and dropped.
// Only pipes are spliced: a file that hangs must keep nothing but its copier.
//
// # Going on in another image of the program
//
// Park brings every copier to a point at which each byte is in a descriptor or
// in the State, and Unpark, or Resume and Go in another image or process that
// has the descriptors, goes on from there. That costs nothing until it happens:
// a copier that waits is roused by a deadline of its files, as Drain does too,
// and one that rests is plain data without a goroutine (see crew). Resume
// believes neither the State, which it compares with itself, nor the
// descriptors, which it compares with the State.
//
// # Logging programs
//
// The URIs binary:// and binary-v2:// start a program that reads the process's
// output itself. Nothing is copied unless there is a terminal. The shim closes
// its writing ends as soon as the process has them, so the program sees the end
// of its input when the last writer is gone. The rules of its end, chosen so
// that no output is lost, are told at logger.stop.
package stdio
