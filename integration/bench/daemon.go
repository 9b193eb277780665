// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/pelletier/go-toml/v2"

	"github.com/quoin-io/quoin/integration/harness"
)

// patience bounds whatever should be immediate.
const patience = 60 * time.Second

// subject is a variant that runs with an OCI runtime: a daemon whose root,
// state, sockets, containerd namespace and cgroup parent nobody else uses.
type subject struct {
	variant
	runtime ociRuntime
	// namespace is also the first part of its containers' cgroup paths.
	namespace string
	dir       string
	state     string
	client    *containerd.Client
	image     containerd.Image
	meter     *meter

	cmd    *exec.Cmd
	exited chan struct{} // closed once cmd has been waited for
}

// startSubject starts the daemon and imports the image.
func startSubject(ctx context.Context, v variant, r ociRuntime) (*subject, error) {
	name := v.name + "-" + r.name
	s := &subject{
		variant: v, runtime: r,
		namespace: token() + "-" + name,
		dir:       filepath.Join(base(), name),
		state:     filepath.Join("/run", name),
		exited:    make(chan struct{}),
	}
	if err := s.writeConfig(); err != nil {
		return nil, err
	}
	if err := s.startDaemon(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.daemon, err)
	}
	var err error
	if s.meter, err = startMeter(s.namespace, s.cmd.Process.Pid); err == nil {
		err = s.connect(ctx)
	}
	if err == nil {
		err = s.importImage(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%w\nthe end of its log:\n%s", err, s.logTail())
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *subject) writeConfig() error {
	if err := os.MkdirAll(s.state, 0o711); err != nil {
		return fmt.Errorf("make the daemon's directory: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return fmt.Errorf("make the daemon's directory: %w", err)
	}
	type table = map[string]any
	content, err := toml.Marshal(table{
		"version": 4,
		"root":    filepath.Join(s.dir, "root"),
		"state":   s.state,
		// Nobody asks for pods here, and CRI is most of a daemon's start.
		"disabled_plugins": []string{
			"io.containerd.grpc.v1.cri",
			"io.containerd.cri.v1.images",
			"io.containerd.cri.v1.runtime",
			"io.containerd.podsandbox.controller.v1.podsandbox",
		},
		"plugins": table{
			"io.containerd.server.v1.grpc":  table{"address": s.address()},
			"io.containerd.server.v1.ttrpc": table{"address": s.address() + ".ttrpc"},
			"io.containerd.internal.v1.opt": table{"path": filepath.Join(s.dir, "opt")},
			"io.containerd.nri.v1.nri":      table{"disable": true},
		},
	})
	if err != nil {
		return fmt.Errorf("encode the daemon's configuration: %w", err)
	}
	if err := os.WriteFile(s.configFile(), content, 0o600); err != nil {
		return fmt.Errorf("write the daemon's configuration: %w", err)
	}
	return nil
}

func (s *subject) address() string    { return filepath.Join(s.state, "c.sock") }
func (s *subject) configFile() string { return filepath.Join(s.dir, "config.toml") }
func (s *subject) logFile() string    { return filepath.Join(s.dir, "log") }

func (s *subject) startDaemon() error {
	log, err := os.Create(s.logFile())
	if err != nil {
		return fmt.Errorf("make its log: %w", err)
	}
	defer log.Close()
	argv := []string{s.daemon, "--config", s.configFile()}
	if s.runtime.cgroupV1 {
		const hide = `set -e; if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$0" "$@"`
		argv = append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", hide}, argv...)
	}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// Before any containerd of the machine.
	path := []string{harness.StockDir(), harness.BinDir(), os.Getenv("PATH")}
	s.cmd.Env = append(os.Environ(), "PATH="+strings.Join(path, ":"))
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.exited)
	}()
	return nil
}

func (s *subject) connect(ctx context.Context) error {
	err := until(patience, func() error {
		if s.over() {
			return nil // there is no use in asking again
		}
		if s.client == nil {
			client, err := containerd.New(s.address(), containerd.WithDefaultNamespace(s.namespace), containerd.WithTimeout(time.Second))
			if err != nil {
				return err
			}
			s.client = client
		}
		serving, err := s.client.IsServing(ctx)
		if err == nil && !serving {
			err = errors.New("it is not ready")
		}
		return err
	})
	if s.over() {
		return fmt.Errorf("%s exited instead of serving", s.daemon)
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", s.daemon, err)
	}
	return nil
}

func (s *subject) over() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// context carries the subject's containerd namespace.
func (s *subject) context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, s.namespace)
}

// stop ends the daemon in an orderly way.
func (s *subject) stop() error {
	if s.client != nil {
		_ = s.client.Close() // the connection ends with the daemon anyway
	}
	if s.over() {
		return nil
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", s.daemon, err)
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return fmt.Errorf("%s did not stop within %v of SIGTERM", s.daemon, patience)
	}
}

// logTail is the end of the daemon's log, without what every start has.
func (s *subject) logTail() string {
	content, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(content)) {
		if !strings.Contains(line, "loading plugin") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "")
}
