// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

const (
	// stageVariable says which of the three processes of a package this is:
	// unset outside, stageInit for PID 1 of the namespaces, stageTest inside.
	stageVariable = "QUOIN_IT_STAGE"
	stageInit     = "init"
	stageTest     = "test"

	// baseVariable is the package's directory, removed at the end.
	baseVariable = "QUOIN_IT_BASE"
	// tokenVariable names what the package makes where names are shared with
	// the rest of the machine, which is the cgroup hierarchies.
	tokenVariable = "QUOIN_IT_TOKEN"
)

// Main runs a package's tests in a world of their own and returns the exit
// code for os.Exit. It fails when one of parts is missing, when a test fails
// and when anything is left behind after the last one.
func Main(m *testing.M, parts ...Part) int { return stages(m, false, parts) }

// MainInMemory is Main for tests that ask how long something takes: what they and
// their daemons write is in memory. Where others use the disk, too, a write may wait
// for it for seconds, and containerd waits for nine and more to run one container.
func MainInMemory(m *testing.M, parts ...Part) int { return stages(m, true, parts) }

// stages does what this process is there for, of the three of a package.
func stages(m *testing.M, inMemory bool, parts []Part) int {
	switch os.Getenv(stageVariable) {
	case stageInit:
		return report(runInit(inMemory))
	case stageTest:
		return runTests(m)
	default:
		return report(runOutside(parts))
	}
}

func report(code int, err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "integration: %v\n", err)
		if code == 0 {
			code = 1
		}
	}
	return code
}

// runOutside starts the test binary in new namespaces and cleans up after it.
func runOutside(parts []Part) (int, error) {
	if err := checkParts(parts); err != nil {
		return 1, err
	}
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".test")
	base, err := os.MkdirTemp("", "quoin-it-"+name+"-")
	if err != nil {
		return 1, fmt.Errorf("make the package's directory: %w", err)
	}
	token := fmt.Sprintf("it-%s-%d", name, os.Getpid())
	// The death signal follows the thread that forked, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := selfCommand(stageInit, baseVariable+"="+base, tokenVariable+"="+token)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Run()
	cleanup := errors.Join(RemoveCgroups(token), os.RemoveAll(base))
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if !exit.Exited() {
			return 1, errors.Join(fmt.Errorf("the test's first process: %w", err), cleanup)
		}
		return exit.ExitCode(), cleanup
	}
	return 0, errors.Join(err, cleanup)
}

func selfCommand(stage string, env ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// runInit is PID 1 of the package's PID namespace: it prepares the namespaces and
// runs the tests.
func runInit(inMemory bool) (int, error) {
	if err := prepareMounts(); err != nil {
		return 1, err
	}
	var env []string
	if inMemory {
		if err := syscall.Mount("tmpfs", Base(), "tmpfs", 0, "mode=700"); err != nil {
			return 1, fmt.Errorf("mount the package's directory: %w", err)
		}
		env = append(env, "TMPDIR="+Base()) // testing.T's TempDir, too
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return 1, fmt.Errorf("find the loopback device: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return 1, fmt.Errorf("bring the loopback device up: %w", err)
	}
	return RunAsInit(selfCommand(stageTest, env...))
}

// RunAsInit runs a command for process 1 of a PID namespace: it reaps what the
// command orphans, as a machine's init would, and returns the command's exit code.
func RunAsInit(cmd *exec.Cmd) (int, error) {
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("start %s: %w", cmd.Args[0], err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait for %s: %w", cmd.Args[0], err)
		case pid != cmd.Process.Pid:
		case status.Signaled():
			return 1, fmt.Errorf("%s was killed by %v", cmd.Args[0], status.Signal())
		default:
			return status.ExitStatus(), nil
		}
	}
}

// prepareMounts makes the mount namespace private, shows the PID namespace in
// /proc and puts empty directories where daemons and CNI keep shared state.
func prepareMounts() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mount namespace private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc of the new PID namespace: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib/cni"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the mount point %s: %w", dir, err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("mount an empty %s: %w", dir, err)
		}
	}
	return nil
}

// runTests runs the package's tests, then stops the shared daemons and fails
// the package for whatever is left behind.
func runTests(m *testing.M) int {
	code := m.Run()
	var problems []string
	for _, d := range sharedDaemons() {
		problems = append(problems, d.leftovers()...)
		if err := d.stop(); err != nil {
			problems = append(problems, err.Error())
		}
	}
	problems = append(problems, worldLeftovers()...)
	if len(problems) == 0 {
		return code
	}
	fmt.Fprintf(os.Stderr, "FAIL: left behind after the last test:\n  %s\n", strings.Join(problems, "\n  "))
	for _, d := range sharedDaemons() {
		fmt.Fprintf(os.Stderr, "--- the end of %s's log\n%s\n", d.Name, d.LogTail(40))
	}
	return 1
}

// Base is the package's directory; it is removed after the last test.
func Base() string { return os.Getenv(baseVariable) }

// Token is a name that no other run on this machine uses, for containerd
// namespaces and cgroup parents: the cgroup hierarchies are shared.
func Token() string { return os.Getenv(tokenVariable) }
