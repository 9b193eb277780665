// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// shimEnv makes the test binary a shim that hangs in a create by that runtime.
const (
	shimEnv   = "QUOIN_OCI_TEST_SHIM"
	bundleEnv = "QUOIN_OCI_TEST_BUNDLE"
)

func beShim(binary string) {
	r, err := New(Config{Binary: binary, Bundle: os.Getenv(bundleEnv)})
	if err == nil {
		_, err = r.Create(context.Background(), "c", CreateOptions{PidFile: r.pidFile("init"), Stdio: Stdio{Stderr: os.Stdout}})
	}
	fmt.Println(err)
	syscall.Exit(1)
}

// A runtime does not outlive its shim; a container does outlive its runtime, which
// every other test shows.
func TestDiesWithShim(t *testing.T) {
	f := ocitest.New(t)
	f.Set("create", ocitest.Failpoint{Hang: true, Stderr: "up\n"})
	self, err := os.Executable()
	must(t, err)
	shim := exec.Command(self)
	shim.Env = append(os.Environ(), shimEnv+"="+f.Binary(), bundleEnv+"="+ocitest.Bundle(t, "true"))
	out, err := shim.StdoutPipe()
	must(t, err)
	must(t, shim.Start())
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Error(err)
	}
	must(t, shim.Process.Kill())
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 { // its end is that of the runtime
		t.Errorf("%q, %v", rest, err)
	}
	if err := shim.Wait(); err == nil {
		t.Error("the shim ended well")
	}
}
