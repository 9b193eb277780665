// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// binaryName is the name under which the test binary acts as the fake.
const binaryName = "quoin-fake-runtime"

// Main is for a package's TestMain: it acts as the fake when the binary was run as
// such, and runs the tests otherwise. It does not return.
func Main(m *testing.M) {
	RunIfFake()
	os.Exit(m.Run())
}

// RunIfFake is for a TestMain with more to do: it returns only when the binary was
// not run as the fake.
func RunIfFake() {
	if filepath.Base(os.Args[0]) == binaryName {
		// Not os.Exit: under the race detector that sleeps for a second.
		syscall.Exit(run(filepath.Dir(os.Args[0]), os.Args[1:]))
	}
}

// Failpoint is what a step does wrong. The steps are the runtime's commands:
// create, start, exec, kill, delete, pause, resume, update, ps, state, checkpoint,
// restore, features and --version.
type Failpoint struct {
	// Times is how often it happens; 0 means always.
	Times int
	// After makes Hang, Signal and Exit happen once the step's work is done.
	After bool
	// Hang makes the step never return.
	Hang bool
	// Delay is a slow step.
	Delay time.Duration
	// Signal is one that the runtime dies by.
	Signal syscall.Signal
	// Exit is a status that the runtime exits with, after Message.
	Exit int
	// Message goes to the log as an error, and to stderr.
	Message string
	// Stderr is printed there as it is.
	Stderr string
	// Stdout is printed instead of what the step would print.
	Stdout string
	// Log is appended to the log file as it is.
	Log string
	// NoPidFile makes the runtime write none.
	NoPidFile bool
	// PidFile is written instead of the pid.
	PidFile string
	// Grandchild leaves a process behind that is in the runtime's process group and
	// holds its stdout and stderr until it is killed.
	Grandchild bool
}

// Call is one invocation of the fake.
type Call struct {
	// Step is the command, as in Failpoint.
	Step string
	// Args are all arguments.
	Args []string
	// Env is the environment.
	Env []string
	// Dir is the working directory.
	Dir string
	// FDs are the open descriptors and what they refer to.
	FDs map[string]string
	// Pid of the runtime.
	Pid int
}

// Fake is one fake runtime. Its methods fail the test when they cannot work.
type Fake struct {
	t     testing.TB
	dir   string
	gates *gates
}

// New makes a fake. When the test ends, all that it started is killed and its
// directory removed.
func New(t testing.TB) *Fake {
	t.Helper()
	// Not t.TempDir: the path of a socket must be short.
	dir, err := os.MkdirTemp("", "oci")
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{t: t, dir: dir}
	t.Cleanup(func() {
		f.gates.close()
		f.killAll()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if f.gates, err = listen(dir); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, f.Binary())
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Binary is the path to configure as the OCI runtime.
func (f *Fake) Binary() string { return filepath.Join(f.dir, binaryName) }

// Root is a state directory for the runtime.
func (f *Fake) Root() string { return filepath.Join(f.dir, "root") }

// Set gives the step a failpoint, in place of the one it had.
func (f *Fake) Set(step string, p Failpoint) {
	f.t.Helper()
	f.Clear(step)
	data, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(failpointPath(f.dir, step), data, 0o600)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// Clear takes the step's failpoint away.
func (f *Fake) Clear(step string) {
	f.t.Helper()
	used, err := filepath.Glob(failpointPath(f.dir, step) + "*")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, path := range used {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.t.Fatal(err)
		}
	}
}

// Calls lists the invocations so far, in order.
func (f *Fake) Calls() []Call {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, callsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	var calls []Call
	for line := range strings.Lines(string(data)) {
		var c Call
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			f.t.Fatal(err)
		}
		calls = append(calls, c)
	}
	return calls
}

// Steps lists the steps of Calls.
func (f *Fake) Steps() []string {
	f.t.Helper()
	var steps []string
	for _, c := range f.Calls() {
		steps = append(steps, c.Step)
	}
	return steps
}

// killAll ends every process of every container, and every hung runtime.
func (f *Fake) killAll() {
	dirs, err := os.ReadDir(f.Root())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.t.Error(err)
	}
	for _, d := range dirs {
		if c, err := load(filepath.Join(f.Root(), d.Name())); err == nil {
			for _, pid := range c.pids() {
				kill(pid)
			}
		}
	}
	// What failpoints have left: it runs the fake's own binary by its name here.
	for _, p := range processes() {
		if strings.HasPrefix(cmdline(p), f.Binary()+"\x00") {
			kill(p.pid)
		}
	}
}

// cmdline is empty when the process is gone.
func cmdline(p process) string {
	data, err := os.ReadFile(filepath.Join("/proc", p.name, "cmdline"))
	if err != nil {
		return ""
	}
	return string(data)
}

// deathTimeout bounds the wait for a killed process, in milliseconds.
const deathTimeout = 20_000

// kill ends a process, waits until it is dead, whoever its parent is, and reaps
// it if it was left to us.
func kill(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it is gone
	}
	defer unix.Close(fd)
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return // it is gone
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, deathTimeout); err != unix.EINTR {
			break
		}
	}
	for {
		if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != unix.EINTR {
			return // reaped, or somebody else's child
		}
	}
}

// Bundle makes a bundle directory with a minimal config.json that runs args.
func Bundle(t testing.TB, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	config := map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"args": args, "cwd": "/", "env": []string{"PATH=" + os.Getenv("PATH")}, "user": map[string]any{"uid": 0, "gid": 0},
		},
		"root": map[string]any{"path": "rootfs"},
	}
	WriteConfig(t, dir, config)
	return dir
}

// WriteConfig writes config as the bundle's config.json.
func WriteConfig(t testing.TB, bundle string, config any) {
	t.Helper()
	data, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
