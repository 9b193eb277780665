// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the list of the shim's dependencies into testdata")

// TestShimDependencies makes each package that comes into the resident shim, or
// leaves it, a line of a change that somebody has read. "go test
// ./integration/arch -run TestShimDependencies -rewrite" takes the list as it is.
func TestShimDependencies(t *testing.T) {
	const golden = "testdata/shim-deps.txt"
	cmd := exec.Command("go", "list", "-deps", "-tags", "no_grpc", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/containerd-shim-quoin-v1")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	slices.Sort(got)
	if *rewrite {
		if err := os.WriteFile(golden, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Fields(string(want)), got); diff != "" {
		t.Errorf("the list (-) and the shim (+) differ; if each is worth its cost in every pod, -rewrite:\n%s", diff)
	}
}
