// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// ServeRegistry starts docker-registry on the loopback of the package's
// network namespace and returns its host:port; it speaks plain HTTP and ends
// with the test.
func ServeRegistry(t testing.TB) string {
	t.Helper()
	address := freeAddress(t)
	dir := t.TempDir()
	settings := filepath.Join(dir, "config.yml")
	content := fmt.Sprintf("version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: %s\n  delete:\n    enabled: true\nhttp:\n  addr: %s\n",
		filepath.Join(dir, "data"), address)
	if err := os.WriteFile(settings, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	output := &Output{}
	cmd := exec.Command(Registry.Path(), "serve", settings)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start docker-registry: %v", err)
	}
	Expect(cmd.Process.Pid)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL) // it has no state worth an orderly end
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("docker-registry said:\n%s", output)
		}
	})
	Eventually(t, "docker-registry answers", func() string {
		response, err := http.Get("http://" + address + "/v2/")
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return response.Status
		}
		return ""
	})
	return address
}

// freeAddress is a loopback address with a port that nobody has; the network
// namespace is the package's own, so nobody takes it meanwhile.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
