// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/bootstrap"
	"github.com/quoin-io/quoin/shim/bundle"
)

// maxInput bounds what containerd sends to start and -info, in bytes.
const maxInput = 10 << 20

// start makes the shim of a task, or finds the one of its pod, and prints the
// address. Whatever it prints beside that would be taken for a part of it.
func (c *command) start(context.Context) error {
	if _, err := readSettings(); err != nil {
		return err
	}
	input, err := io.ReadAll(io.LimitReader(c.stdin, maxInput))
	if err != nil {
		return fmt.Errorf("read the bootstrap parameters: %w", err)
	}
	p, err := bootstrap.ParseParams(input, bootstrap.Args{
		ID:            c.id,
		Namespace:     c.namespace,
		Address:       c.address,
		PublishBinary: c.publishBinary,
		Debug:         c.debug,
		TTRPCAddress:  os.Getenv("TTRPC_ADDRESS"),
	})
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the bundle: %w", err)
	}
	address, err := c.startServer(p, dir)
	if err != nil {
		return err
	}
	if p.Legacy {
		// Daemons of before 2.0 find the shim again by this file only.
		if err := bootstrap.WriteAddress(dir, address); err != nil {
			return err
		}
	}
	reply, err := bootstrap.Reply(p, address)
	if err != nil {
		return err
	}
	_, err = c.stdout.Write(reply)
	return err
}

// startServer returns the address of the pod's shim, a new one unless it lives.
func (c *command) startServer(p bootstrap.Params, dir string) (_ string, retErr error) {
	b, err := bundle.Open(dir)
	if err != nil {
		return "", err
	}
	facets, err := b.Facets()
	if err != nil {
		return "", err
	}
	path, err := bootstrap.SocketPath(p.SocketDir, p.GRPCAddress, p.Namespace, bootstrap.Group(facets.Annotations, p.ID))
	if err != nil {
		return "", err
	}
	listener, err := bootstrap.Listen(path)
	var inUse *bootstrap.InUseError
	switch {
	case errors.As(err, &inUse):
		return inUse.Address, nil
	case err != nil:
		return "", err
	}
	defer listener.Close()
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, bootstrap.Remove(path))
		}
	}()
	opts, err := bundle.ParseOptions(p.Options.TypeURL, p.Options.Value)
	if err != nil {
		return "", err
	}
	return bootstrap.Address(path), c.spawn(p, dir, listener, opts, chooseHome(opts, facets))
}

// spawn starts the serving process. It inherits the listening socket, so that it
// can be connected to from now on, and none of the standard streams: containerd
// reads this process's output until nobody holds it any more.
func (c *command) spawn(p bootstrap.Params, dir string, listener *net.UnixListener, opts bundle.Options, home []string) (retErr error) {
	socket, err := listener.File()
	if err != nil {
		return fmt.Errorf("pass the socket on: %w", err)
	}
	defer socket.Close()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the shim's own executable: %w", err)
	}
	args := []string{"-namespace", p.Namespace, "-id", p.ID, "-address", p.GRPCAddress}
	if p.Debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = dir
	cmd.Env = append(serverEnv(os.Environ(), p), home...)
	cmd.ExtraFiles = []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	// Core scheduling is an attribute of the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Getenv("SCHED_CORE") != "" {
		if err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, unix.PR_SCHED_CORE_SCOPE_PROCESS_GROUP, 0); err != nil {
			return fmt.Errorf("give the shim a core scheduling group: %w", err)
		}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the shim: %w", err)
	}
	defer func() {
		if retErr != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	if err := joinCgroup(opts, cmd.Process.Pid); err != nil {
		return err
	}
	if err := raiseOOMScore(cmd.Process.Pid); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// serverEnv is the environment of the serving process: containerd's, with few
// threads for Go's scheduler, whose every P costs memory.
func serverEnv(env []string, p bootstrap.Params) []string {
	out := make([]string, 0, len(env)+2)
	for _, kv := range env {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "GOMAXPROCS", "TTRPC_ADDRESS", sliceEnv, cgroupEnv, followEnv:
		default:
			out = append(out, kv)
		}
	}
	return append(out, "GOMAXPROCS="+strconv.Itoa(processors), "TTRPC_ADDRESS="+p.TTRPCAddress)
}

// raiseOOMScore makes the shim one point likelier to be killed for want of memory
// than the daemon, as containerd's own shim is.
func raiseOOMScore(pid int) error {
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return fmt.Errorf("read the OOM score: %w", err)
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(own)))
	if err != nil {
		return fmt.Errorf("read the OOM score: %w", err)
	}
	score = min(score+1, 1000)
	file := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
	if err := os.WriteFile(file, []byte(strconv.Itoa(score)), 0); err != nil {
		return fmt.Errorf("set the OOM score of the shim: %w", err)
	}
	return nil
}
