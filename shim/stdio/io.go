// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/quoin-io/quoin/config"
)

// Streams are the names that a client gave for a process's standard streams. An
// empty name leaves the stream at /dev/null.
type Streams struct {
	// Stdin is the path of a named pipe or of a file to read.
	Stdin string
	// Stdout and Stderr are each a path or a fifo://, file://, binary:// or
	// binary-v2:// URI. Stderr is ignored with a terminal, which has no second
	// output, and when Stdout is a logger, which takes both.
	Stdout, Stderr string
	// Terminal gives the process a pseudo-terminal instead of pipes.
	Terminal bool
}

// Children starts and reaps the logging programs.
type Children interface {
	// Start starts cmd as exec.Cmd.Start does.
	Start(cmd *exec.Cmd) error
	// Wait waits for cmd as exec.Cmd.Wait does. It is called once the process is
	// known to have ended.
	Wait(cmd *exec.Cmd) error
}

// Options say for whom an IO is.
type Options struct {
	// ID and Namespace are the container's; a logger gets them as CONTAINER_ID
	// and CONTAINER_NAMESPACE.
	ID, Namespace string
	// UID and GID own the process's pipes, so that it can open /dev/stdout anew.
	UID, GID int
	// Dir is an existing private directory for the console's socket. The path
	// must leave 20 of the 107 bytes that a socket's address has. Empty means
	// the directory for temporary files.
	Dir string
	// Deadlines bound the waits: Console, Open and Logger are used.
	Deadlines config.Deadlines
	// Children is needed for loggers only.
	Children Children
	// LoggerDirs are where a logger may be; empty means anywhere.
	LoggerDirs []string
}

// phase is how far an IO has come; it only grows.
type phase int

const (
	phaseOpen phase = iota
	phaseStarted
	phaseClosed
)

// phaseNames are those in a State.
var phaseNames = map[phase]string{phaseOpen: "open", phaseStarted: "started"}

// IO is the standard streams of one process, from before the OCI runtime is
// started until the process is deleted. Its methods are safe for concurrent
// use. Every descriptor, goroutine and program of an IO is gone once Close has
// returned nil.
type IO struct {
	streams   Streams
	terminal  bool
	opts      Options
	deadlines config.Deadlines
	stdin     *input    // nil: the process has no stdin
	outputs   []*output // in the order stdout, stderr
	fds       descriptors
	socket    *consoleSocket // nil without a terminal
	logger    *logger        // nil without one
	log       *log.Entry

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	crew   crew // copiers and the watch over the logger

	mu          sync.Mutex
	phase       phase
	starting    bool // Started is under way, or has failed
	stdinClosed bool
	parked      parking
	finish      *finishing // nil when no Finish is under way

	closeOnce sync.Once
	closeErr  error
}

// Open makes all that must exist before the OCI runtime is started: the pipes
// or the console's socket, the files, and the logger, which has said that it is
// ready. A client's named pipe must exist but is not opened yet.
//
// A stream name that cannot be served is errdefs.ErrInvalidArgument; a logger
// that is not ready in time is context.DeadlineExceeded. On error nothing is
// left but log files that have been created.
func Open(ctx context.Context, s Streams, o Options) (_ *IO, retErr error) {
	p, err := newPlan(s)
	if err != nil {
		return nil, err
	}
	i := newIO(s, o)
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, i.Close())
		}
	}()
	if s.Terminal {
		if i.socket, err = listenConsole(o.Dir); err != nil {
			return nil, err
		}
	}
	if err := i.openInput(p.stdin); err != nil {
		return nil, err
	}
	if err := i.openOutputs(p); err != nil {
		return nil, err
	}
	if p.stdout.logger() {
		if err := i.openLogger(ctx, p.stdout); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// newIO makes an IO that has nothing yet.
func newIO(s Streams, o Options) *IO {
	i := &IO{
		streams:   s,
		terminal:  s.Terminal,
		opts:      o,
		deadlines: withDefaults(o.Deadlines),
		log:       log.L.WithField("id", o.ID),
	}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	return i
}

// withDefaults fills in the deadlines that are used here.
func withDefaults(d config.Deadlines) config.Deadlines {
	def := config.DefaultDeadlines()
	d.Console = cmp.Or(d.Console, def.Console)
	d.Open = cmp.Or(d.Open, def.Open)
	d.Logger = cmp.Or(d.Logger, def.Logger)
	d.Drain = cmp.Or(d.Drain, def.Drain)
	return d
}

// Child returns the process's ends, for the OCI runtime to inherit; nil stands
// for /dev/null. All are nil for a terminal and after Started. They stay the
// IO's: do not close them.
func (i *IO) Child() (stdin, stdout, stderr *os.File) {
	return i.fds.get(childStdin), i.fds.get(childStdout), i.fds.get(childStderr)
}

// ConsoleSocket returns the path of the socket to which the OCI runtime sends
// the terminal, "" without a terminal.
func (i *IO) ConsoleSocket() string {
	if i.socket == nil {
		return ""
	}
	return i.socket.path
}

// Started is called when the OCI runtime has returned successfully. It closes
// the process's ends, receives the terminal, opens the client's named pipes,
// which waits for their readers, and begins to copy. On error, which is
// context.DeadlineExceeded when the terminal or a reader did not come in time,
// nothing is copied and the IO is to be closed. A second call is
// errdefs.ErrFailedPrecondition, one while the IO is parked
// errdefs.ErrUnavailable.
func (i *IO) Started(ctx context.Context) error {
	i.mu.Lock()
	if i.phase != phaseOpen {
		i.mu.Unlock()
		return fmt.Errorf("standard streams of %q: already started or closed: %w", i.opts.ID, errdefs.ErrFailedPrecondition)
	}
	if i.parked != notParked {
		i.mu.Unlock()
		return fmt.Errorf("standard streams of %q: cannot be started while they are parked: %w", i.opts.ID, errdefs.ErrUnavailable)
	}
	i.phase, i.starting = phaseStarted, true
	i.mu.Unlock()

	if err := i.fds.close(childStdin, childStdout, childStderr); err != nil {
		return fmt.Errorf("closing the ends of %q: %w", i.opts.ID, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(i.ctx, cancel)()
	if err := i.receiveConsole(ctx); err != nil {
		return err
	}
	if err := i.attachInput(); err != nil {
		return err
	}
	if err := i.attachOutputs(ctx); err != nil {
		return err
	}
	return i.run()
}

// run starts the copiers unless Close came first.
func (i *IO) run() error {
	if i.stdin != nil {
		if err := i.stdin.prepare(); err != nil {
			return err
		}
	}
	for _, o := range i.outputs {
		if err := o.prepare(); err != nil {
			return err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.phase == phaseClosed {
		return fmt.Errorf("standard streams of %q: closed while starting: %w", i.opts.ID, errdefs.ErrFailedPrecondition)
	}
	i.starting = false
	i.employ()
	return nil
}

// employ gives the copiers to the crew.
func (i *IO) employ() {
	if i.stdin != nil && !i.stdin.m.over() {
		i.crew.add(i.stdin)
	}
	for _, o := range i.outputs {
		if !o.direct && !o.released {
			i.crew.add(o)
		}
	}
}

// Close ends the copying, ends a logger (see logger.stop) and releases every
// descriptor. What has not been delivered is lost: call Drain before. It works
// in every phase; later calls return what the first did.
func (i *IO) Close() error {
	i.closeOnce.Do(func() { i.closeErr = i.release() })
	return i.closeErr
}

func (i *IO) release() error {
	i.mu.Lock()
	i.phase, i.parked = phaseClosed, notParked
	i.mu.Unlock()
	i.cancel()
	i.fds.seal()
	var errs []error
	if i.socket != nil {
		errs = append(errs, i.socket.close())
	}
	// The logger's reading ends go last: they tell how much it has left to read.
	for s := range numSlots {
		if s != loggerStdout && s != loggerStderr && s != loggerPidfd {
			errs = append(errs, i.fds.close(s))
		}
	}
	i.crew.resume() // if parked: they find their files closed
	if i.logger != nil {
		// A copier that has just come to its end may have taken its pipe out of the
		// table and not closed it yet: for a writer that goes on, stop would end the
		// program at once, and with it what it has read and not written.
		i.fds.settle()
		errs = append(errs, i.logger.stop())
	}
	errs = append(errs, i.fds.close(loggerStdout, loggerStderr), i.join())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the standard streams of %q: %w", i.opts.ID, err)
	}
	return nil
}

// join waits for the copiers, all of which have lost their descriptors. Only a
// write to a file on a hanging file system can keep one.
func (i *IO) join() error {
	timer := time.NewTimer(i.deadlines.Drain)
	defer timer.Stop()
	select {
	case <-i.crew.idle():
		return nil
	case <-timer.C:
		return fmt.Errorf("a write to the output's destination does not return: %w", context.DeadlineExceeded)
	}
}
