// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/quoin-io/quoin/config"
)

// service is quoind as the bed runs it.
type service interface {
	start(context.Context) error
	restart(context.Context) error
	pid() (int, error)
	// wholeLog is its log since the machine booted.
	wholeLog() string
}

// logEnd is the end of the daemon's log, for the report of a failure.
func logEnd() string {
	lines := strings.Split(strings.TrimSpace(daemon.wholeLog()), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// install puts the product where `make install` does, and its settings beside.
func install() error {
	bin := os.Getenv("QUOIN_BIN")
	for from, to := range map[string]string{
		"quoind":                   "/usr/local/bin/quoind",
		"containerd-shim-quoin-v1": "/usr/local/bin/containerd-shim-quoin-v1",
		"quoinctl":                 "/usr/local/bin/quoinctl",
		"runc":                     "/usr/local/libexec/quoin/runc",
		"../config/quoind.service": "/etc/systemd/system/quoind.service",
	} {
		if err := command(context.Background(), "install", "-D", filepath.Join(bin, from), to); err != nil {
			return err
		}
	}
	settings := `version = 4
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '` + pauseRef + `'
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/usr/lib/cni']
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun]
  runtime_type = '` + config.RuntimeType + `'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun.options]
  BinaryName = '` + crun + `'
`
	return writeFile("/etc/quoind/conf.d/vm.toml", settings)
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the directory of %s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func command(ctx context.Context, argv ...string) error {
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// unit is quoind.service.
type unit struct{}

func (unit) start(ctx context.Context) error {
	if err := command(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	return command(ctx, "systemctl", "start", "quoind.service")
}

func (unit) restart(ctx context.Context) error {
	return command(ctx, "systemctl", "restart", "quoind.service")
}

func (unit) pid() (int, error) {
	out, err := exec.Command("systemctl", "show", "--property=MainPID", "--value", "quoind.service").Output()
	if err != nil {
		return 0, fmt.Errorf("ask for quoind's process: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

func (unit) wholeLog() string {
	text, err := journal("quoind.service")
	if err != nil {
		return err.Error()
	}
	return text
}

// journal is what a unit and systemd about it have said since the machine booted.
func journal(unit string) (string, error) {
	// What was said a moment ago may be on its way.
	if out, err := exec.Command("journalctl", "--sync").CombinedOutput(); err != nil {
		return "", fmt.Errorf("journalctl --sync: %w: %s", err, out)
	}
	out, err := exec.Command("journalctl", "--unit="+unit, "--boot", "--no-pager", "--output=cat").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("read the journal of %s: %w: %s", unit, err, out)
	}
	return string(out), nil
}

// child is a quoind that the tests started themselves.
type child struct {
	cmd *exec.Cmd
}

const childLog = "/run/quoind.log"

func (c *child) start(context.Context) error {
	log, err := os.OpenFile(childLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open quoind's log: %w", err)
	}
	defer log.Close()
	c.cmd = exec.Command("/usr/local/bin/quoind")
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start quoind: %w", err)
	}
	return nil
}

func (c *child) restart(ctx context.Context) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop quoind: %w", err)
	}
	var exit *exec.ExitError
	if err := c.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("stop quoind: %w", err)
	}
	return c.start(ctx)
}

func (c *child) pid() (int, error) { return c.cmd.Process.Pid, nil }

func (c *child) wholeLog() string {
	text, err := os.ReadFile(childLog)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
