// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// executor streams as kubelet does on behalf of kubectl: over SPDY.
func executor(t *testing.T, address string) remotecommand.Executor {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	e, err := remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, parsed)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExecStreams(t *testing.T) {
	t.Parallel()
	n := node(t)
	m := n.RunPod(t, "streams").Run(t, "app", sleep)
	r, err := n.Exec(t.Context(), &cri.ExecRequest{
		ContainerId: m.ID, Cmd: []string{"sh", "-c", "cat; echo err >&2; exit 6"}, Stdin: true, Stdout: true, Stderr: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	input := strings.Repeat("streamed input\n", 10_000)
	var stdout, stderr bytes.Buffer
	err = executor(t, r.Url).StreamWithContext(t.Context(), remotecommand.StreamOptions{
		Stdin: strings.NewReader(input), Stdout: &stdout, Stderr: &stderr,
	})
	var code exec.CodeExitError
	if !errors.As(err, &code) || code.Code != 6 {
		t.Errorf("error %v, want exit code 6", err)
	}
	if stdout.String() != input || stderr.String() != "err\n" {
		t.Errorf("stdout %d bytes instead of %d, stderr %q", stdout.Len(), len(input), &stderr)
	}
}

// sizes is a queue of terminal sizes that a test fills.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestExecTerminal(t *testing.T) {
	t.Parallel()
	n := node(t)
	m := n.RunPod(t, "terminal").Run(t, "app", sleep)
	r, err := n.Exec(t.Context(), &cri.ExecRequest{ContainerId: m.ID, Cmd: []string{"sh"}, Tty: true, Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	e := executor(t, r.Url)
	keys, typist := io.Pipe()
	screen := &harness.Output{}
	size := make(sizes, 1)
	size <- remotecommand.TerminalSize{Width: 91, Height: 29}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		done <- e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: keys, Stdout: screen, Tty: true, TerminalSizeQueue: size})
	}()
	for i, want := range []string{"29 91", "17 63"} {
		if i == 1 {
			size <- remotecommand.TerminalSize{Width: 63, Height: 17}
		}
		harness.Eventually(t, "the terminal has the size "+want, func() string {
			if _, err := io.WriteString(typist, "stty size\n"); err != nil {
				return err.Error()
			}
			if got := screen.String(); !strings.Contains(got, want) {
				return fmt.Sprintf("%q", got)
			}
			return ""
		})
	}
	if _, err := io.WriteString(typist, "exit 4\n"); err != nil {
		t.Fatal(err)
	}
	close(size)
	select {
	case err := <-done:
		var code exec.CodeExitError
		if !errors.As(err, &code) || code.Code != 4 {
			t.Errorf("error %v, want exit code 4", err)
		}
	case <-time.After(harness.Patience):
		t.Errorf("the stream does not end with the shell; it showed %q", screen)
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	n := node(t)
	m := n.RunPod(t, "attach").Run(t, "app",
		[]string{"sh", "-c", "while read line; do echo got $line; done; echo end of input"},
		func(c *cri.ContainerConfig) { c.Stdin, c.StdinOnce = true, true })
	r, err := n.Attach(t.Context(), &cri.AttachRequest{ContainerId: m.ID, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := &harness.Output{}, &harness.Output{}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	err = executor(t, r.Url).StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("a\nb\n"), Stdout: stdout, Stderr: stderr})
	if err != nil {
		t.Errorf("attach: %v", err)
	}
	if got, want := stdout.String(), "got a\ngot b\nend of input\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	// StdinOnce: the end of the client's input is the container's.
	if s := m.AwaitExit(t); s.ExitCode != 0 {
		t.Errorf("exit code %d", s.ExitCode)
	}
}

func TestPortForward(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "forwarded")
	server := pod.Run(t, "server", []string{"nc", "-ll", "-p", "8181", "-e", "cat"})
	// A forwarder gives up for good when the pod refuses once (8181 is 1FF5).
	harness.Eventually(t, "the server listens", func() string {
		out, err := n.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: server.ID, Cmd: []string{"sh", "-c", "cat /proc/net/tcp /proc/net/tcp6"}, Timeout: 10})
		if err != nil {
			return err.Error()
		}
		if !strings.Contains(string(out.Stdout), ":1FF5 ") {
			return string(out.Stdout)
		}
		return ""
	})
	r, err := n.PortForward(t.Context(), &cri.PortForwardRequest{PodSandboxId: pod.ID, Port: []int32{8181}})
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(r.Url)
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	messages := &harness.Output{}
	forwarder, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, address),
		[]string{"0:8181"}, stop, ready, messages, messages)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("forward: %v", err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("through the tunnel\n", 100)
	harness.Eventually(t, "the pod answers through the tunnel", func() string {
		connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
		if err != nil {
			return err.Error()
		}
		defer connection.Close()
		if _, err := io.WriteString(connection, want); err != nil {
			return err.Error()
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(connection, got); err != nil || string(got) != want {
			return fmt.Sprintf("%q, %v; %s", got, err, messages)
		}
		return ""
	})
	close(stop)
	if err := <-done; err != nil && !errors.Is(err, portforward.ErrLostConnectionToPod) {
		t.Errorf("forward: %v", err)
	}
}
