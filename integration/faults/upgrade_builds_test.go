// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

const (
	configPkg  = "github.com/quoin-io/quoin/config"
	upgradePkg = "github.com/quoin-io/quoin/shim/upgrade"
	shimPkg    = "github.com/quoin-io/quoin/shim"
)

// Builds of the shim, each made once.
var (
	// nextShim is a later release, olderShim the one before, which knows an older
	// format of the state, ancientShim one that knows no format.
	nextShim    = shimBuild("next", "", "-X "+configPkg+".Version=9.9.9")
	olderShim   = shimBuild("older", "", "-X "+configPkg+".Version=0.0.9 -X "+upgradePkg+".newestByLinker=1")
	ancientShim = shimBuild("ancient", "", "-X "+upgradePkg+".newestByLinker=0")
	// crashingShim kills itself when it has taken everything over, before it says so.
	crashingShim = shimBuild("crashing", ",failpoints", "-X "+shimPkg+".failpointByLinker=taken=kill")
	// hangingShim does not answer when it is asked what it can take over.
	hangingShim = shimBuild("hanging", ",failpoints", "-X "+shimPkg+".failpointByLinker=check=hang")
)

func shimBuild(name, tags, flags string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path := filepath.Join(harness.Base(), "shim-"+name)
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-buildmode=exe", "-tags", "no_grpc"+tags,
			"-ldflags", "-s -w "+flags, "-o", path, "github.com/quoin-io/quoin/cmd/containerd-shim-quoin-v1")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the shim %s: %w\n%s", name, err, out)
		}
		return path, nil
	})
}

// built returns the path of a build.
func built(t *testing.T, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
