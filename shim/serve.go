// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/bootstrap"
	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/container"
	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/events"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/reaper"
	"github.com/quoin-io/quoin/shim/task"
)

// flushPatience is how long a shim that ends waits for the daemon to take one of the
// last events, so that it ends although the daemon is away. The daemon knows by then:
// its own delete has been answered. For one that takes them, however slowly, it stays:
// others learn of an exit from its event only.
const flushPatience = 5 * time.Second

// loneliness is how long a shim without containers waits for a client. A daemon
// connects as soon as start has answered; one that was killed in between, or while
// it created the first container, leaves a shim that nobody knows of.
const loneliness = 10 * time.Second

// leave is how long a shim that was told to end, and whose containers have ended,
// waits for a client: a daemon that is being restarted may come back for the exits,
// and would find them on record if not.
const leave = time.Second

// farewell bounds how long a shim that was asked to end waits for its clients to
// hang up, so that they have read the answer. containerd hangs up at once.
const farewell = time.Second

// answering bounds how long a shim that ends waits for the requests under way.
const answering = 5 * time.Second

// socketFD is where start and quoind put the listening socket.
const socketFD = 3

// server is the serving shim.
type server struct {
	set       *container.Set
	publisher *events.Publisher
	reaper    *reaper.Reaper
	oom       *oomWatch
	meter     *meter
	thrift    thrift
	ttrpc     *ttrpc.Server
	socket    string // path of the listening socket
	clients   *connections
	requests  requests
	upgrades  *upgrades

	executable string    // path of the shim's own
	started    time.Time // when the first image began

	once    sync.Once
	asked   atomic.Bool   // a client asked for the end, and waits for the answer
	leaving atomic.Bool   // a signal asked for it
	end     chan struct{} // closed when the shim is to end

	home *home
}

// serve serves the Task API until the daemon shuts the empty shim down. It may begin
// anew or go on where an earlier image has stopped; it may also only stand by.
func (c *command) serve(ctx context.Context) error {
	// First of all: systemd sends SIGTERM to every process of a unit that it stops.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGPIPE)
	defer signal.Stop(signals)
	role, fds, err := role()
	switch {
	case err != nil:
		return err
	case role == guardianRole:
		return c.guard(ctx, fds[0], fds[1], signals)
	case role == imageRole:
		t, err := readEnvelope(fds[0])
		if err != nil {
			return fmt.Errorf("take over: %w", err)
		}
		return c.takeOver(ctx, t, signals)
	}
	logFD, err := openLog()
	if err != nil {
		return err
	}
	if err := c.setUpLog(logFD); err != nil {
		return err
	}
	s, err := c.newServer(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	s.upgrades.log = logFD
	s.home.begin()
	return s.run(ctx, signals)
}

// run serves until the shim is to end.
func (s *server) run(ctx context.Context, signals <-chan os.Signal) error {
	s.clients.watch(loneliness, s.lonely)
	failed := make(chan error, 1)
	go func() { failed <- s.ttrpc.Serve(ctx, s.clients) }()
	for {
		select {
		case sig := <-signals:
			s.signalled(sig)
		case e := <-s.upgrades.execs:
			e.run()
		case err := <-failed:
			if errors.Is(err, ttrpc.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("serve the Task API: %w", err)
		case <-s.end:
			return nil
		}
	}
}

// newServer makes a server that begins anew, or, from a takeover, one that does
// nothing before goOn.
func (c *command) newServer(ctx context.Context, from *takeover) (_ *server, retErr error) {
	s := &server{started: time.Now(), end: make(chan struct{})}
	defer func() {
		if retErr != nil && from == nil {
			s.close()
		}
	}()
	if err := c.begin(ctx, s, from); err != nil {
		return nil, err
	}
	env, err := c.environment(s)
	if err != nil {
		return nil, err
	}
	s.set = container.NewSet(env)
	s.oom.onKill = s.set.OOMKilled
	s.ttrpc, err = ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(s.requests.intercept(task.Intercept)))
	if err != nil {
		return nil, fmt.Errorf("make the ttrpc server: %w", err)
	}
	s.upgrades = &upgrades{server: s, log: -1, execs: make(chan execution)}
	task.NewService(s.set, s.heard, s.shutdown).Register(s.ttrpc)
	control.Register(s.ttrpc, &manager{server: s, namespace: c.namespace, id: c.id})
	if from == nil {
		return s, nil
	}
	s.upgrades.log = from.Log
	if !from.Started.IsZero() {
		s.started = from.Started
	}
	if err := s.set.Resume(from.Containers, from.inherited.File); err != nil {
		return nil, err
	}
	return s, s.clients.resume(from.Connections, from.inherited.File)
}

// begin makes the parts that an earlier image may have left.
func (c *command) begin(ctx context.Context, s *server, from *takeover) (err error) {
	if s.executable, err = os.Executable(); err != nil {
		return fmt.Errorf("find the shim's own executable: %w", err)
	}
	published := events.Config{Address: os.Getenv("TTRPC_ADDRESS"), Namespace: c.namespace, Dir: ".", Log: log.G(ctx)}
	var listener *net.UnixListener
	if from == nil {
		if s.reaper, err = reaper.New(); err != nil {
			return err
		}
		if listener, s.socket, err = c.listen(); err != nil {
			return err
		}
		s.publisher, s.meter = events.New(published), newMeter(control.Totals{})
	} else {
		if from.cause != nil {
			s.executable = from.Binary // by its path, which may be another's now
		}
		if s.reaper, err = reaper.Resume(); err != nil {
			return err
		}
		if listener, err = from.listener(); err != nil {
			return err
		}
		if s.publisher, err = events.Resume(published, from.Events, from.inherited.File); err != nil {
			return err
		}
		s.socket, s.meter = from.Socket, newMeter(from.Totals)
	}
	s.clients = newConnections(listener, bootstrap.SameUser())
	return nil
}

// environment is what the containers of this shim share.
func (c *command) environment(s *server) (container.Env, error) {
	driver, err := cgroup.ParseDriver(os.Getenv(cgroup.DriverEnv))
	if err != nil {
		return container.Env{}, fmt.Errorf("the environment's %s: %w", cgroup.DriverEnv, err)
	}
	set, err := readSettings()
	if err != nil {
		return container.Env{}, err
	}
	s.oom = &oomWatch{}
	s.home = newHome(c.id, s.reaper, set.deadlines.Bus)
	return container.Env{
		Namespace:   c.namespace,
		Reaper:      s.reaper,
		Publisher:   s.publisher,
		OOM:         s.oom,
		Meter:       s.meter,
		Known:       oci.NewKnown(),
		Host:        cgroup.ProbeInit(""),
		Driver:      driver,
		Used:        (&advisor{patience: set.deadlines}).used,
		Deadlines:   set.deadlines,
		LoggerDirs:  set.loggerDirs,
		RuntimeRoot: runtimeRoot,
		SocketDir:   filepath.Dir(s.socket),
		Executable:  s.executable,
		Home:        s.home.await,
		Manager:     s.home.systemd.alive,
	}, nil
}

// listen takes the socket that was passed on, or makes the one of -socket.
func (c *command) listen() (*net.UnixListener, string, error) {
	if c.socket != "" {
		l, err := bootstrap.Listen(c.socket)
		if err != nil {
			return nil, "", err
		}
		return l, c.socket, nil
	}
	f := os.NewFile(socketFD, "socket")
	defer f.Close()
	l, err := listenerBy(f)
	if err != nil {
		return nil, "", fmt.Errorf("containerd starts a shim by the action start: %w", err)
	}
	return l, l.Addr().String(), nil
}

// heard is called for every request of the daemon.
func (s *server) heard(changes bool) {
	s.publisher.Wake()
	s.thrift.busy(changes)
}

// shutdown ends the shim because a client asks for it.
func (s *server) shutdown() {
	s.asked.Store(true)
	s.finish()
}

// finish ends the shim; it does not wait for it.
func (s *server) finish() { s.once.Do(func() { close(s.end) }) }

// lonely ends a shim that nobody is connected to and that serves no container, or
// only such as the daemon has cleaned up after, or, if it was told to end, only such
// as have ended.
func (s *server) lonely() {
	switch {
	case s.set.Seal():
		log.L.Warn("the shim ends: it has no container, and no daemon is connected")
		s.finish()
	case s.set.SealAbandoned():
		log.L.Warn("the shim ends: its containers have ended, their bundles are gone, and no daemon is connected")
		s.finish()
	case s.leaving.Load() && s.set.SealEnded():
		log.L.Warn("the shim ends, as it was told to: its containers have ended, and no daemon is connected")
		s.finish()
	}
}

// signalled acts on a signal. SIGTERM does not take a shim from its containers:
// systemd sends it to every process of a unit that it stops, and at the end of the
// host's run to all at once. The shim follows its containers and their daemon then,
// so that what they say at their end is told and nobody has to wait for it.
func (s *server) signalled(sig os.Signal) {
	switch sig {
	case unix.SIGUSR1:
		dumpStacks()
	case unix.SIGTERM, unix.SIGINT:
		if s.set.Seal() {
			s.finish()
			return
		}
		log.L.Warnf("%v: %d containers are served; the shim ends when they have ended and no daemon is connected", sig, s.set.Len())
		s.leaving.Store(true)
		s.clients.hurry(leave)
	}
}

// close gives up the socket first, while it is certainly this shim's, then lets
// the last answers and events out.
func (s *server) close() {
	if s.socket != "" {
		if err := bootstrap.Remove(s.socket); err != nil {
			log.L.WithError(err).Warn("remove the socket")
		}
	}
	s.thrift.stop()
	if s.publisher != nil {
		if err := s.publisher.Close(flushPatience); err != nil {
			log.L.WithError(err).Warn("events are left that the daemon did not take")
		}
	}
	if s.ttrpc != nil {
		ctx, cancel := context.WithTimeout(context.Background(), answering)
		defer cancel()
		if s.asked.Load() {
			bye, cancel := context.WithTimeout(ctx, farewell)
			s.clients.wait(bye)
			cancel()
		}
		_ = s.ttrpc.Shutdown(ctx) // that ctx has ended is no news
	}
	if s.clients != nil {
		s.clients.Close()
	}
	if s.oom != nil {
		s.oom.close()
	}
	if s.reaper != nil {
		s.reaper.Close()
	}
}
