// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The names by which systemd's manager, and the bus itself, are reached
// (org.freedesktop.systemd1(5), D-Bus specification).
const (
	managerName      = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	managerInterface = managerName + ".Manager"
	busName          = "org.freedesktop.DBus"
	busPath          = "/org/freedesktop/DBus"
	peerInterface    = busName + ".Peer"

	busAddressEnv  = "DBUS_SYSTEM_BUS_ADDRESS"
	usualBusSocket = "/run/dbus/system_bus_socket"
)

const (
	// signOfLife bounds the question whether systemd answers: less than busctl by
	// itself does (25 s), and so much that a short operation of an OCI runtime is not
	// overdue before.
	signOfLife = 15 * time.Second
	// secondOpinion bounds the question whether the bus or the manager is silent.
	secondOpinion = 3 * time.Second
)

// children starts processes; the reaper does.
type children interface {
	Start(*exec.Cmd) error
	Wait(*exec.Cmd) error
}

// systemd asks systemd's manager. It does so by busctl, which every systemd
// brings, in a process of its own: a D-Bus library would be paid for in every
// resident shim.
type systemd struct {
	children children
	// limit bounds each question, and the wait for what was promised.
	limit time.Duration
}

// errNoBus says that systemd cannot be asked at all here, now and later.
var errNoBus = errors.New("there is no busctl, or no system bus")

// busAddress names the bus that busctl and the OCI runtimes use.
func busAddress() string {
	if a := os.Getenv(busAddressEnv); a != "" {
		return a
	}
	return "unix:path=" + usualBusSocket
}

// reachable fails with errNoBus where nobody needs to be asked.
func (s systemd) reachable() error {
	if _, err := exec.LookPath("busctl"); err != nil {
		return fmt.Errorf("%w: %w", errNoBus, err)
	}
	if os.Getenv(busAddressEnv) != "" {
		return nil
	}
	if err := unix.Access(usualBusSocket, unix.F_OK); err != nil {
		return fmt.Errorf("%w: %w", errNoBus, &os.PathError{Op: "access", Path: usualBusSocket, Err: err})
	}
	return nil
}

// call makes one call of a method, and waits for the answer until ctx ends.
func (s systemd) call(ctx context.Context, args ...string) error {
	// Longer than ctx allows, so that what ends the waiting is known.
	cmd := exec.CommandContext(ctx, "busctl", append([]string{"--system", "--timeout=600", "--quiet", "call"}, args...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // what a shim asks for goes with it
	cmd.WaitDelay = time.Second
	var said strings.Builder
	cmd.Stderr = &said
	if err := s.children.Start(cmd); err != nil {
		return err
	}
	err := s.children.Wait(cmd)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("no answer on the system bus (%s): %w", busAddress(), ctx.Err())
	}
	return fmt.Errorf("on the system bus (%s): %w: %s", busAddress(), err, strings.TrimSpace(said.String()))
}

// startScope asks for a scope with one process in it, which systemd gives as long as
// stop to end. The answer is that a job was made; the move happens after it. A unit of
// this name that failed, which systemd keeps until somebody has taken note, is dismissed
// first.
func (s systemd) startScope(ctx context.Context, name, slice string, pid int, stop time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	err := s.call(ctx, scopeArgs(name, slice, pid, stop)...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if s.call(ctx, managerName, managerPath, managerInterface, "ResetFailedUnit", "s", name) != nil {
		return err // there is no such unit, so that is not what is wrong
	}
	return s.call(ctx, scopeArgs(name, slice, pid, stop)...)
}

// scopeArgs are busctl's arguments for StartTransientUnit.
func scopeArgs(name, slice string, pid int, stop time.Duration) []string {
	return []string{
		managerName, managerPath, managerInterface,
		"StartTransientUnit", "ssa(sv)a(sa(sv))",
		name, "fail",
		"5",
		"Description", "s", "Quoin shim",
		"Slice", "s", slice,
		"PIDs", "au", "1", strconv.Itoa(pid),
		"CollectMode", "s", "inactive-or-failed",
		"TimeoutStopUSec", "t", strconv.FormatInt(stop.Microseconds(), 10),
		"0",
	}
}

// alive returns an error that says who is silent when systemd does not answer in
// time on the bus. Whoever is refused at once, or finds no bus, does not hang,
// and is told nothing.
func (s systemd) alive(ctx context.Context) error {
	if s.reachable() != nil {
		return nil
	}
	limit := min(s.limit, signOfLife)
	asked, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.call(asked, managerName, managerPath, peerInterface, "Ping")
	if err == nil || ctx.Err() != nil || asked.Err() == nil {
		return nil
	}
	again, cancel := context.WithTimeout(ctx, min(limit, secondOpinion))
	defer cancel()
	_ = s.call(again, busName, busPath, busName, "GetId") // a refusal is an answer too
	if again.Err() == nil {
		return fmt.Errorf("systemd's manager gives no answer on the system bus (%s) within %s, while the bus itself does", busAddress(), limit)
	}
	return fmt.Errorf("the system bus (%s), by which systemd is asked, gives no answer within %s", busAddress(), limit)
}
