// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"
)

// daemon is a quoind that the demonstration started.
type daemon struct {
	cmd *exec.Cmd
	ctl *ctl
}

// startDaemon starts quoind and returns when it answers.
func startDaemon(ctx context.Context, p places) (*daemon, error) {
	if err := os.MkdirAll(p.dir, 0o711); err != nil {
		return nil, fmt.Errorf("making the directory: %w", err)
	}
	// The one directory that has a fixed place of its own otherwise.
	settings := fmt.Sprintf("version = 4\n[plugins.'io.containerd.internal.v1.opt']\npath = '%s'\n", filepath.Join(p.dir, "opt"))
	if err := os.WriteFile(p.config(), []byte(settings), 0o600); err != nil {
		return nil, fmt.Errorf("writing quoind's configuration: %w", err)
	}
	log, err := os.Create(p.log())
	if err != nil {
		return nil, fmt.Errorf("making quoind's log: %w", err)
	}
	defer log.Close()

	args := []string{"--config", p.config(), "--root", p.root(), "--state", p.state(), "--address", p.socket()}
	say("Starting quoind, with everything it keeps below %s/.", filepath.Base(p.dir))
	fmt.Printf("$ quoind %s\n", strings.Join(args, " "))
	cmd := exec.Command(filepath.Join(p.bin, "quoind"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+p.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	// Not in the terminal's group: Ctrl-C is for the demonstration, which
	// stops quoind in its turn.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting quoind: %w", err)
	}
	d := &daemon{cmd: cmd, ctl: &ctl{binary: filepath.Join(p.bin, "quoinctl"), socket: p.socket()}}
	if err := os.WriteFile(p.pid(), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("writing quoind's pid: %w", err), d.stop())
	}
	if err := d.answers(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("quoind does not answer (its log: %s): %w", p.log(), err), d.stop())
	}
	return d, nil
}

// answers waits until the daemon's service is up.
func (d *daemon) answers(ctx context.Context) error {
	client, err := containerd.New(d.ctl.socket, containerd.WithTimeout(30*time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Version(ctx)
	return err
}

// stop ends the daemon and waits for it.
func (d *daemon) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping quoind: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("quoind ended badly: %w", err)
		}
		return nil
	case <-ctx.Done():
		_ = d.cmd.Process.Kill()
		<-ended
		return errors.New("quoind did not end within 20 seconds and was killed")
	}
}

// ctl runs quoinctl against the daemon, and shows what it runs.
type ctl struct {
	binary, socket string
}

// command prepares a command line without showing it.
func (c *ctl) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.binary, args...)
	cmd.Env = append(os.Environ(), "CONTAINERD_ADDRESS="+c.socket, "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1")
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// output runs a command, without showing it, and returns what it printed.
func (c *ctl) output(ctx context.Context, args ...string) (string, error) {
	var errs strings.Builder
	cmd := c.command(ctx, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("quoinctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return string(out), nil
}

// show runs a command as a user would and shows both.
func (c *ctl) show(ctx context.Context, args ...string) error {
	fmt.Printf("$ quoinctl %s\n", strings.Join(args, " "))
	out, err := c.output(ctx, args...)
	fmt.Print(out)
	return err
}
