// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// ociProcess is the part of an OCI process that the fake honours.
type ociProcess struct {
	Terminal bool     `json:"terminal"`
	Args     []string `json:"args"`
	Env      []string `json:"env"`
	Cwd      string   `json:"cwd"`
}

func readProcess(bundle string) (ociProcess, error) {
	var spec struct {
		Process ociProcess `json:"process"`
	}
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return spec.Process, err
	}
	return spec.Process, json.Unmarshal(data, &spec)
}

// spawn starts a process in a session of its own, with our stdio or a terminal.
// With a fifo, it waits for a line in that before it becomes the program.
func spawn(p ociProcess, fifo, socket string) (int, error) {
	if len(p.Args) == 0 {
		return 0, errors.New("process.args is empty")
	}
	program, err := exec.LookPath(p.Args[0])
	if err != nil {
		return 0, fmt.Errorf("unable to start container process: %w", err)
	}
	cmd := exec.Command(program)
	cmd.Args = p.Args
	if fifo != "" {
		cmd = exec.Command("/bin/sh", append([]string{"-c", `read -r _ <"$0" && exec "$@"`, fifo, program}, p.Args[1:]...)...)
	}
	cmd.Env, cmd.Dir = p.Env, p.Cwd
	if _, err := os.Stat(cmd.Dir); err != nil {
		cmd.Dir = "/" // it was meant for a rootfs
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.Terminal {
		tty, err := sendTerminal(socket)
		if err != nil {
			return 0, err
		}
		defer tty.Close()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		cmd.SysProcAttr.Setctty = true
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("unable to start container process: %w", err)
	}
	return cmd.Process.Pid, nil
}

// sendTerminal makes one, sends its master, and returns its other end.
func sendTerminal(socket string) (*os.File, error) {
	if socket == "" {
		return nil, errors.New("cannot allocate tty if runc will detach without setting console socket")
	}
	master, name, err := console.NewPty()
	if err != nil {
		return nil, err
	}
	defer master.Close()
	tty, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	addr := &net.UnixAddr{Name: socket, Net: "unix"}
	conn, err := net.DialUnix("unix", nil, addr)
	if err == nil {
		_, _, err = conn.WriteMsgUnix([]byte("/dev/ptmx"), unix.UnixRights(int(master.Fd())), nil)
		_ = conn.Close()
	}
	if err != nil {
		_ = tty.Close()
		return nil, fmt.Errorf("send terminal: %w", err)
	}
	return tty, nil
}

// release lets a created init go on; it waits until the init listens, or is dead.
func release(c *container) error {
	pidfd, err := unix.PidfdOpen(c.Pid, 0)
	if err != nil {
		return errors.New("cannot start an already stopped container")
	}
	defer unix.Close(pidfd)
	listens, done := make(chan struct{}), make(chan error, 1)
	go func() {
		f, err := os.OpenFile(filepath.Join(c.dir, "start"), os.O_WRONLY, 0)
		if err == nil {
			close(listens)
			_, err = f.WriteString("\n")
			_ = f.Close()
		}
		done <- err
	}()
	died := make(chan struct{})
	go func() {
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				close(died)
				return
			}
		}
	}()
	select {
	case err := <-done:
		return err
	case <-died:
		select {
		case <-listens: // it went on, and has ended already
			return <-done
		default:
			return errors.New("cannot start a container that has stopped")
		}
	case <-time.After(time.Minute):
		return errors.New("init does not listen")
	}
}

// writePid writes the pid file as the failpoint wants it.
func writePid(path string, pid int, p Failpoint) error {
	if p.NoPidFile || path == "" {
		return nil
	}
	text := fmt.Sprint(pid)
	if p.PidFile != "" {
		text = p.PidFile
	}
	temp := filepath.Join(filepath.Dir(path), "."+strings.TrimPrefix(filepath.Base(path), ".")+".tmp")
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
