// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// binary is the shim, built as it is shipped.
var binary string

func TestMain(m *testing.M) {
	ocitest.RunIfFake()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "quoin-shim-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "containerd-shim-quoin-v1")
	build := exec.Command("go", "build", "-buildvcs=false", "-buildmode=exe", "-tags", "no_grpc", "-ldflags", "-s -w", "-o", binary, "github.com/quoin-io/quoin/cmd/containerd-shim-quoin-v1")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the shim: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

const patience = 20 * time.Second

// bed is what a daemon has when it starts a shim: a bundle, directories, and an
// OCI runtime.
type bed struct {
	t       testing.TB
	fake    *ocitest.Fake
	ns, id  string
	bundle  string
	sockets string
	env     []string
}

func newBed(t testing.TB, args ...string) *bed {
	t.Helper()
	if len(args) == 0 {
		args = []string{"sleep", "1000"}
	}
	sockets, err := os.MkdirTemp("", "q") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(sockets); err != nil {
			t.Error(err)
		}
	})
	fake := ocitest.New(t)
	b := &bed{t: t, fake: fake, ns: filepath.Base(fake.Root()), id: "c", sockets: filepath.Join(sockets, "s")}
	b.bundle = filepath.Join(t.TempDir(), b.id)
	if err := os.Rename(ocitest.Bundle(t, args...), b.bundle); err != nil {
		t.Fatal(err)
	}
	return b
}

// result is what one run of the binary left.
type result struct {
	stdout []byte
	stderr string
	code   int
}

// run runs the binary as containerd does. It returns once nobody holds its
// output any more.
func (b *bed) run(stdin []byte, action ...string) result {
	b.t.Helper()
	args := []string{"-namespace", b.ns, "-address", b.sockets + "/containerd.sock", "-publish-binary", "/bin/false", "-id", b.id}
	return execute(b.t, b.bundle, b.env, stdin, append(args, action...)...)
}

func execute(t testing.TB, dir string, env []string, stdin []byte, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.Bytes(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// params are the bootstrap parameters of containerd 2.4.
func (b *bed) params(change ...func(*bootapi.BootstrapParams)) []byte {
	b.t.Helper()
	p := &bootapi.BootstrapParams{
		InstanceID: b.id, Namespace: b.ns, ContainerdVersion: "2.4.2", SocketDir: &b.sockets,
		ContainerdGrpcAddress: b.sockets + "/containerd.sock",
	}
	for _, f := range change {
		f(p)
	}
	return b.encode(p)
}

func (b *bed) encode(m proto.Message) []byte {
	b.t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// start starts a shim the new way and returns it.
func (b *bed) start() *served {
	b.t.Helper()
	return b.startWith()
}

// startWith is start with other parameters.
func (b *bed) startWith(change ...func(*bootapi.BootstrapParams)) *served {
	b.t.Helper()
	r := b.run(b.params(change...), "start")
	if r.code != 0 || r.stderr != "" {
		b.t.Fatalf("start: %+v", r)
	}
	var reply bootapi.BootstrapResult
	if err := proto.Unmarshal(r.stdout, &reply); err != nil {
		b.t.Fatalf("%q: %v", r.stdout, err)
	}
	return b.serving(reply.Address)
}

// served is a shim that serves.
type served struct {
	task.TTRPCTaskService
	t       testing.TB
	pid     int
	pidfd   int
	address string
	client  *ttrpc.Client
}

// serving connects to a shim, which ends with the test at the latest.
func (b *bed) serving(address string) *served {
	b.t.Helper()
	s := &served{t: b.t, address: address}
	s.connect()
	resp, err := s.Connect(b.t.Context(), &task.ConnectRequest{ID: b.id})
	if err != nil {
		b.t.Fatal(err)
	}
	s.pid = int(resp.ShimPid)
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.pid)); err != nil || exe != binary {
		b.t.Fatalf("process %d, which is %q, says it is the shim: %v", s.pid, exe, err)
	}
	if s.pidfd, err = unix.PidfdOpen(s.pid, 0); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0) // it may have ended
		s.awaitEnd()
		_ = unix.Close(s.pidfd)
		_ = os.Remove(s.path()) // it may have been killed
	})
	return s
}

func (s *served) path() string { return strings.TrimPrefix(s.address, "unix://") }

// connect makes a new connection to it.
func (s *served) connect() {
	s.t.Helper()
	conn, err := net.Dial("unix", s.path())
	if err != nil {
		s.t.Fatal(err)
	}
	s.client = ttrpc.NewClient(conn)
	s.TTRPCTaskService = task.NewTTRPCTaskClient(s.client)
	s.t.Cleanup(func() { _ = s.client.Close() })
}

func (s *served) signal(sig unix.Signal) {
	s.t.Helper()
	if err := unix.PidfdSendSignal(s.pidfd, sig, nil, 0); err != nil {
		s.t.Fatal(err)
	}
}

// ended tells whether the process ends within a time, which 0 makes now.
func (s *served) ended(within time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(s.pidfd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(within); ; {
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

func (s *served) awaitEnd() {
	s.t.Helper()
	if !s.ended(patience) {
		s.t.Fatalf("the shim %d does not end", s.pid)
	}
}

func (b *bed) options() *anypb.Any {
	b.t.Helper()
	o, err := typeurl.MarshalAnyToProto(&options.Options{BinaryName: b.fake.Binary(), Root: filepath.Dir(b.fake.Root())})
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// run makes a container that runs, and returns its pid.
func (s *served) run(b *bed) int {
	s.t.Helper()
	resp, err := s.Create(s.t.Context(), &task.CreateTaskRequest{ID: b.id, Bundle: b.bundle, Options: b.options()})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Start(s.t.Context(), &task.StartRequest{ID: b.id}); err != nil {
		s.t.Fatal(err)
	}
	return int(resp.Pid)
}

// remove ends a container and deletes it.
func (s *served) remove(b *bed) {
	s.t.Helper()
	ctx := s.t.Context()
	if _, err := s.Kill(ctx, &task.KillRequest{ID: b.id, Signal: 9}); err != nil {
		s.t.Error(err)
	}
	if w, err := s.Wait(ctx, &task.WaitRequest{ID: b.id}); err != nil || w.ExitStatus != 137 {
		s.t.Errorf("%v, %v", w, err)
	}
	if _, err := s.Delete(ctx, &task.DeleteRequest{ID: b.id}); err != nil {
		s.t.Error(err)
	}
}

// shutdown asks a shim without containers to end. It is answered.
func (s *served) shutdown(b *bed) {
	s.t.Helper()
	if _, err := s.Shutdown(s.t.Context(), &task.ShutdownRequest{ID: b.id}); err != nil {
		s.t.Errorf("not answered: %v", err)
	}
	if err := s.client.Close(); err != nil {
		s.t.Error(err)
	}
	s.awaitEnd()
}

// eventually looks again and again, for what nobody tells of.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("still not: %s", what)
		}
	}
}

// procField reads a field of /proc/<pid>/status.
func procField(t testing.TB, pid int, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, name)
	return ""
}
