// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Core(harness.Registry)...))
}

// whiteouts is an image of three layers above busybox's: a tree, a layer that
// deletes a file, a directory and the former content of another directory, and
// a layer that brings one of the deleted names back.
func whiteouts(t *testing.T) v1.Image {
	t.Helper()
	base, err := harness.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	var layers []v1.Layer
	for _, files := range [][]harness.File{
		{
			{Path: "data", Dir: true},
			{Path: "data/kept", Content: []byte("kept")},
			{Path: "data/deleted", Content: []byte("deleted")},
			{Path: "data/returns", Content: []byte("old")},
			{Path: "data/changed", Content: []byte("old")},
			{Path: "data/gone", Dir: true},
			{Path: "data/gone/inside", Content: []byte("inside")},
			{Path: "data/opaque", Dir: true, Mode: 0o750},
			{Path: "data/opaque/below", Content: []byte("below")},
			{Path: "data/opaque/sub", Dir: true},
			{Path: "data/opaque/sub/file", Content: []byte("file")},
			{Path: "data/link", Link: "kept"},
		},
		{
			{Path: "data/.wh.deleted"},
			{Path: "data/.wh.returns"},
			{Path: "data/.wh.gone"},
			{Path: "data/opaque", Dir: true, Mode: 0o700},
			{Path: "data/opaque/.wh..wh..opq"},
			{Path: "data/opaque/above", Content: []byte("above")},
			{Path: "data/changed", Content: []byte("new"), UID: 1000, GID: 1000},
		},
		{
			{Path: "data/returns", Content: []byte("again")},
		},
	} {
		layer, err := harness.Layer(files...)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer)
	}
	image, err := harness.Image(base, layers, v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"find", "/data"}})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// wantTree is what the union of the layers has to look like: mode, owner, path.
const wantTree = `755 0:0 /data
644 1000:1000 /data/changed
644 0:0 /data/kept
777 0:0 /data/link
700 0:0 /data/opaque
644 0:0 /data/opaque/above
644 0:0 /data/returns
`

func TestPushAndPull(t *testing.T) {
	d := harness.Shared(t, harness.Spec{Kind: harness.KindQuoind})
	address := harness.ServeRegistry(t)
	ref := address + "/team/whiteouts:1"
	d.Import(t, "", ref, whiteouts(t))

	d.MustCLI(t, "images", "push", "--plain-http", ref)
	d.MustCLI(t, "images", "remove", "--sync", ref)
	if out := d.MustCLI(t, "content", "list", "--quiet"); out != "" {
		t.Fatalf("the removed image left content, so a pull would prove nothing:\n%s", out)
	}
	if out := d.MustCLI(t, "snapshots", "list"); strings.Contains(out, "Committed") {
		t.Fatalf("the removed image left snapshots:\n%s", out)
	}

	d.MustCLI(t, "images", "pull", "--plain-http", ref)
	id := harness.ID(t)
	t.Cleanup(func() { d.Remove(t, id) })
	got := d.MustCLI(t, "run", "--rm", "--runtime", d.Runtime, ref, id,
		"sh", "-c", "find /data | sort | xargs stat -c '%a %u:%g %n'")
	if got != wantTree {
		t.Errorf("the tree in the container is\n%swant\n%s", got, wantTree)
	}
	content := d.MustCLI(t, "run", "--rm", "--runtime", d.Runtime, ref, id,
		"sh", "-c", "cd /data; for f in kept returns changed link opaque/above; do cat $f; echo; done")
	if want := "kept\nagain\nnew\nkept\nabove\n"; content != want {
		t.Errorf("the files are %q, want %q", content, want)
	}

	d.MustCLI(t, "images", "remove", "--sync", ref)
	if out := d.MustCLI(t, "content", "list", "--quiet"); out != "" {
		t.Errorf("content is left after the removal:\n%s", out)
	}
	harness.Leftovers(t, d)
}

// TestPullErrors: what the user learns when the registry has not got it.
func TestPullErrors(t *testing.T) {
	d := harness.Shared(t, harness.Spec{Kind: harness.KindQuoind})
	address := harness.ServeRegistry(t)
	r := d.CLI(t, "images", "pull", "--plain-http", address+"/team/absent:1")
	if r.Code == 0 || !strings.Contains(r.Stderr, "not found") {
		t.Errorf("pulling an absent image: exit code %d, %q", r.Code, r.Stderr)
	}
	if r := d.CLI(t, "run", "--rm", "--runtime", d.Runtime, address+"/team/absent:1", "x"); r.Code == 0 || !strings.Contains(r.Stderr, "not found") {
		t.Errorf("running an absent image: exit code %d, %q", r.Code, r.Stderr)
	}
}
