// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"

	"github.com/quoin-io/quoin/config"
)

// Kind is which daemon.
type Kind string

const (
	// KindQuoind is the product's daemon (stock containerd under QUOIN_REFERENCE).
	KindQuoind Kind = "quoind"
	// KindStock is containerd built from the module that quoind is built from.
	KindStock Kind = "stock"
)

// Spec says what daemon to start.
type Spec struct {
	// Name distinguishes daemons of one package; the kind if empty. Short: it
	// is part of socket paths.
	Name string
	Kind Kind
	Bed  Bed
	// CRI adds the CRI plugins, which are off otherwise.
	CRI *CRI
	// State is containerd's state directory; a short one if empty.
	State string
	// Path are directories put before the daemon's PATH.
	Path []string
	// Plugins are settings of plugins, by URI, in place of those the harness has.
	Plugins map[string]map[string]any
	// Timeouts are containerd's, by name, in place of the daemon's own.
	Timeouts map[string]string
	// Env are variables beside the tests' own.
	Env []string
	// Files are open in the daemon from descriptor 3 on, and inherited by whatever
	// it starts, as what a careless parent leaks.
	Files []*os.File
}

// Daemon is a containerd of the test's own: its root, state, sockets and
// containerd namespace are nobody else's.
type Daemon struct {
	Spec
	// Runtime is the runtime type to ask for.
	Runtime string
	// Namespace is the containerd namespace of the tests; cgroups go under it.
	Namespace string
	// Address is the path of the gRPC socket.
	Address string
	// Root is containerd's directory of this name.
	Root string

	config, log string
	client      *containerd.Client
	baseline    map[string]bool // mount points right after the first start
	importing   sync.Mutex      // of the busybox image, by tests in parallel

	cmd    *exec.Cmd
	exited chan struct{} // closed once cmd has been waited for
}

// startDeadline bounds the start of a daemon on two busy cores.
const startDeadline = 60 * time.Second

// Start starts a daemon for one test and stops it at the test's end, when it
// fails the test for whatever is left behind.
func Start(t testing.TB, spec Spec) *Daemon {
	t.Helper()
	d, err := newDaemon(spec)
	if err == nil {
		register(d)
		err = d.start()
	}
	if err != nil {
		t.Fatalf("start %s: %v\n%s", spec.Kind, err, d.LogTail(40))
	}
	t.Cleanup(func() {
		if !t.Failed() {
			for _, p := range d.leftovers() {
				t.Errorf("left behind in %s: %s", d.Name, p)
			}
		}
		if err := d.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", d.Name, d.LogTail(60))
		}
	})
	return d
}

func (s Spec) name() string {
	if s.Name != "" {
		return s.Name
	}
	return string(s.Kind)
}

func newDaemon(spec Spec) (*Daemon, error) {
	spec.Name = spec.name()
	if spec.State == "" {
		spec.State = filepath.Join("/run/d", spec.Name)
	}
	d := &Daemon{
		Spec:      spec,
		Runtime:   config.RuntimeType,
		Namespace: Token() + "-" + spec.Name,
		// Not below State, which tests make long and odd.
		Address: filepath.Join("/run", socketName(spec.Name)+".sock"),
		Root:    filepath.Join(Base(), spec.Name, "root"),
		config:  filepath.Join(Base(), spec.Name, "config.toml"),
		log:     filepath.Join(Base(), spec.Name, "log"),
	}
	if Reference() {
		d.Runtime = "io.containerd.runc.v2"
	}
	for _, dir := range []string{d.State, d.Root} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return d, fmt.Errorf("make the daemon's directory: %w", err)
		}
	}
	if err := os.WriteFile(d.config, d.configTOML(), 0o600); err != nil {
		return d, fmt.Errorf("write the daemon's configuration: %w", err)
	}
	return d, nil
}

// socketName keeps of a name what a gRPC target takes.
func socketName(name string) string { return notInID.ReplaceAllString(name, "-") }

func (d *Daemon) binary() string {
	if d.Kind == KindQuoind && !Reference() {
		return Quoind.Path()
	}
	return StockD.Path()
}

func (d *Daemon) start() error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the daemon's log: %w", err)
	}
	defer log.Close()
	argv := d.Bed.command(d.binary(), "--config", d.config)
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.Env = append(os.Environ(), "PATH="+d.searchPath())
	if limit := d.Timeouts[CleanupTimeout]; limit != "" {
		// quoind tells its shims itself.
		d.cmd.Env = append(d.cmd.Env, config.CleanupEnv+"="+limit)
	}
	d.cmd.Env = append(d.cmd.Env, d.Env...)
	d.cmd.ExtraFiles = d.Files
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("exec %s: %w", d.binary(), err)
	}
	exited := make(chan struct{})
	d.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}(d.cmd)
	if err := d.awaitReady(); err != nil {
		return err
	}
	if d.baseline == nil {
		d.baseline = mountPoints(d.PID())
	}
	return nil
}

func (d *Daemon) searchPath() string {
	dirs := append([]string{}, d.Path...)
	dirs = append(dirs, BinDir(), StockDir(), "/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
	return strings.Join(dirs, ":")
}

func (d *Daemon) awaitReady() error {
	if d.client != nil {
		_ = d.client.Close() // of the daemon that is gone
		d.client = nil
	}
	last := poll(startDeadline, func() string {
		select {
		case <-d.exited:
			return ""
		default:
		}
		if d.client == nil {
			client, err := containerd.New(d.Address, containerd.WithDefaultNamespace(d.Namespace), containerd.WithTimeout(time.Second))
			if err != nil {
				return err.Error()
			}
			d.client = client
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		serving, err := d.client.IsServing(ctx)
		if err != nil || !serving {
			return fmt.Sprintf("serving: %v, %v", serving, err)
		}
		return ""
	})
	select {
	case <-d.exited:
		return errors.New("it exited instead of serving")
	default:
	}
	if last != "" {
		return fmt.Errorf("it does not serve: %s", last)
	}
	return nil
}

// PID is the daemon's process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Client is a client of the daemon, with its namespace as the default.
func (d *Daemon) Client() *containerd.Client { return d.client }

// Kill ends the daemon as a crash would: with SIGKILL. Shims and containers
// go on.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill %s: %v", d.Name, err)
	}
	<-d.exited
}

// Restart starts the daemon again after Kill, over the same directories.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	if err := d.start(); err != nil {
		t.Fatalf("start %s again: %v\n%s", d.Name, err, d.LogTail(40))
	}
}

func (d *Daemon) running() bool {
	if d.exited == nil {
		return false
	}
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// stop ends the daemon in an orderly way.
func (d *Daemon) stop() error {
	if d.client != nil {
		_ = d.client.Close() // its connection ends with the daemon anyway
		d.client = nil
	}
	if !d.running() {
		return nil
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", d.Name, err)
	}
	select {
	case <-d.exited:
		return nil
	case <-time.After(Patience):
		_ = d.cmd.Process.Kill() // so that the next one can have its place
		<-d.exited
		return fmt.Errorf("%s did not stop within %v of SIGTERM", d.Name, Patience)
	}
}

// LogTail returns the last lines of the daemon's log, without those that every
// start has.
func (d *Daemon) LogTail(lines int) string {
	content, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	all := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(content)), "\n"), func(line string) bool {
		return strings.Contains(line, "loading plugin")
	})
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
