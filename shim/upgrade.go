// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/events"
	"github.com/quoin-io/quoin/shim/upgrade"
)

// How long the steps of an upgrade may take.
const (
	// restTimeout is for what is under way to end, unless the request says otherwise.
	restTimeout = 10 * time.Second
	// checkTimeout is for one run of the new binary that says what it can.
	checkTimeout = 10 * time.Second
	// guardTimeout is for the guardian to get ready.
	guardTimeout = 10 * time.Second
	// takeoverTimeout is for the new image to have all that it needs; then the
	// guardian takes over.
	takeoverTimeout = 20 * time.Second
)

// takeoverEnv tells a process of the shim's that it is one image after another, and
// what it has inherited: "image <envelope>" or "guardian <envelope> <talk>".
const (
	takeoverEnv  = "QUOIN_TAKEOVER"
	imageRole    = "image"
	guardianRole = "guardian"
)

// upgrades makes the shim go on as another binary, once at a time.
type upgrades struct {
	server *server
	log    int // descriptor of the log; -1 without one

	running sync.Mutex
	execs   chan execution // to the main goroutine
}

// execution asks the main goroutine, which alone runs on the process's first
// thread, to execute a binary.
type execution struct {
	binary *upgrade.Binary
	env    []string
	failed chan<- error
}

func (e execution) run() { e.failed <- e.binary.Exec(os.Args, e.env) }

// mayWait are requests that need not be answered before an upgrade: those that the
// next image can begin anew, and the one for the upgrade itself.
func mayWait(method string) bool {
	return method == control.UpgradeMethod || strings.HasPrefix(method, "/containerd.task.") && strings.HasSuffix(method, ".Task/Wait")
}

// Upgrade makes the shim go on as the binary of the request. It returns only if that
// fails, and then everything goes on as before: the answer to a request that succeeds
// comes from the next image.
func (u *upgrades) Upgrade(ctx context.Context, r control.UpgradeRequest) (_ control.UpgradeResponse, err error) {
	if !u.running.TryLock() {
		return control.UpgradeResponse{}, fmt.Errorf("another upgrade of this shim is under way: %w", errdefs.ErrFailedPrecondition)
	}
	defer u.running.Unlock()
	defer func() {
		u.server.meter.Upgraded(err)
		log.L.WithError(err).Warn("the shim could not be upgraded, and goes on as before")
	}()
	path := r.Path
	if path == "" {
		path = strings.TrimSuffix(u.server.executable, " (deleted)") // what has come in its place
	}
	// Whether the client stays to hear of it changes nothing.
	return control.UpgradeResponse{}, u.upgrade(context.WithoutCancel(ctx), path, cmp.Or(r.Deadline, restTimeout))
}

func (u *upgrades) upgrade(ctx context.Context, path string, rest time.Duration) error {
	binary, err := upgrade.Find(path)
	if err != nil {
		return err
	}
	defer binary.Close()
	answer, err := u.check(ctx, binary, nil)
	if err != nil {
		return err
	}
	version, err := upgrade.Common(answer.Versions)
	if err != nil {
		return err
	}
	image, guardian, err := upgrade.NewTalk()
	if err != nil {
		return err
	}
	defer image.Close()
	defer guardian.Close()
	s, undo, err := u.park(ctx, rest)
	defer undo()
	if err != nil {
		return fmt.Errorf("the shim is busy: %w", err)
	}
	if s.Talk, err = image.FD(); err != nil {
		return err
	}
	envelope, err := upgrade.Seal(version, s.of(version))
	if err != nil {
		return err
	}
	defer envelope.Close()
	if _, err := u.check(ctx, binary, envelope); err != nil {
		return err
	}
	return u.change(binary, &s, envelope, image, guardian)
}

func (u *upgrades) check(ctx context.Context, binary *upgrade.Binary, envelope *os.File) (upgrade.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return binary.Check(ctx, u.server.reaper, envelope)
}

// park brings the whole shim to rest and returns what it is then. undo has to be
// called, also after an error.
func (u *upgrades) park(ctx context.Context, rest time.Duration) (st state, undo func(), err error) {
	s := u.server
	ctx, cancel := context.WithTimeout(ctx, rest)
	var steps []func()
	undo = func() {
		cancel()
		for i := len(steps) - 1; i >= 0; i-- {
			steps[i]()
		}
	}
	if err = s.home.rest(ctx); err != nil {
		return st, undo, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	s.clients.hold()
	steps = append(steps, s.clients.release)
	if err = s.clients.settle(ctx, mayWait); err == nil {
		err = s.requests.settle(ctx, mayWait)
	}
	if err != nil {
		return st, undo, err
	}
	if err = s.reaper.Park(ctx); err != nil {
		return st, undo, err
	}
	steps = append(steps, s.reaper.Unpark)
	if st.Containers, err = s.set.Park(ctx); err != nil {
		return st, undo, err
	}
	steps = append(steps, s.set.Unpark)
	if st.Events, err = s.publisher.Park(ctx); err != nil {
		return st, undo, err
	}
	steps = append(steps, s.publisher.Unpark)
	if st.Connections, err = s.clients.freeze(ctx, control.UpgradeMethod); err != nil {
		return st, undo, err
	}
	return st, undo, u.describe(&st)
}

// describe adds what the shim itself is.
func (u *upgrades) describe(st *state) (err error) {
	s := u.server
	st.PID = os.Getpid()
	st.Build = control.Build{Version: config.Version, Revision: config.Revision}
	st.Binary, st.Socket, st.Log = s.executable, s.socket, u.log
	st.Started = s.started
	// The counts of all parts are in the totals; the next image's begin at zero.
	st.Totals = s.totals()
	st.Events.Stats = events.Stats{}
	st.Listener, err = s.clients.descriptor()
	return err
}

// change starts the guardian and executes the binary.
func (u *upgrades) change(binary *upgrade.Binary, s *state, envelope *os.File, image, guardian *upgrade.Talk) error {
	number, err := upgrade.Number(envelope)
	if err != nil {
		return err
	}
	talk, err := guardian.FD()
	if err != nil {
		return err
	}
	undo, err := upgrade.Inherit(append(s.fds(), number, talk))
	if err != nil {
		return err
	}
	defer undo()
	end, err := u.startGuardian(roleEnv(guardianRole, number, talk), image)
	guardian.Close() // only the guardian may hold its end
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	select {
	case u.execs <- execution{binary, roleEnv(imageRole, number), failed}:
		err = <-failed
	case <-u.server.end:
		err = fmt.Errorf("the shim is ending: %w", errdefs.ErrUnavailable)
	}
	end()
	return err
}

// startGuardian starts this image once more, as a child that has all that the next
// image will have, and takes over if that fails.
func (u *upgrades) startGuardian(env []string, image *upgrade.Talk) (end func(), err error) {
	self, err := upgrade.Self()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	cmd := self.Command(context.Background(), os.Args[1:]...)
	cmd.Env = env
	if err := u.server.reaper.Start(cmd); err != nil {
		return nil, fmt.Errorf("start the guardian: %w", err)
	}
	end = func() { u.endGuardian(cmd) }
	if err := image.Hear(upgrade.Ready, guardTimeout); err != nil {
		end()
		return nil, fmt.Errorf("the guardian does not get ready: %w: %w", err, errdefs.ErrUnavailable)
	}
	return end, nil
}

func (u *upgrades) endGuardian(cmd *exec.Cmd) {
	err := cmd.Process.Kill()
	if werr := u.server.reaper.Wait(cmd); err != nil && werr != nil {
		log.L.WithError(errors.Join(err, werr)).Error("end the guardian")
	}
}

// roleEnv is this process's environment for the next image or for the guardian.
func roleEnv(role string, fds ...int) []string {
	value := role
	for _, fd := range fds {
		value += " " + strconv.Itoa(fd)
	}
	return append(os.Environ(), takeoverEnv+"="+value)
}

// role is what takeoverEnv says of this process; "" for one that begins anew. The
// variable is gone then: it must not reach what the shim starts.
func role() (name string, fds []int, err error) {
	value, ok := os.LookupEnv(takeoverEnv)
	if !ok {
		return "", nil, nil
	}
	if err := os.Unsetenv(takeoverEnv); err != nil {
		return "", nil, err
	}
	words := strings.Fields(value)
	want := map[string]int{imageRole: 1, guardianRole: 2}
	if len(words) == 0 || want[words[0]] != len(words)-1 {
		return "", nil, fmt.Errorf("the environment's %s is %q, which an earlier image of the shim never says: %w", takeoverEnv, value, errdefs.ErrInvalidArgument)
	}
	for _, w := range words[1:] {
		fd, err := strconv.Atoi(w)
		if err != nil {
			return "", nil, fmt.Errorf("the environment's %s: %w: %w", takeoverEnv, err, errdefs.ErrInvalidArgument)
		}
		fds = append(fds, fd)
	}
	return words[0], fds, nil
}
