// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// BusyboxRef is the name under which the tests know the Busybox image.
const BusyboxRef = "quoin.test/busybox:1"

// File is one entry of a layer.
type File struct {
	Path string
	// Mode holds the permissions; the default is 0644, or 0755 for a directory.
	Mode int64
	// Dir makes it a directory; Link a symbolic link to Link.
	Dir      bool
	Link     string
	Content  []byte
	UID, GID int
}

// Layer builds an image layer.
func Layer(files ...File) (v1.Layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Uid: f.UID, Gid: f.GID}
		switch {
		case f.Dir:
			header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
			header.Mode = orDefault(f.Mode, 0o755)
		case f.Link != "":
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.Link, 0o777
		default:
			header.Typeflag, header.Size = tar.TypeReg, int64(len(f.Content))
			header.Mode = orDefault(f.Mode, 0o644)
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("layer entry %s: %w", f.Path, err)
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, fmt.Errorf("layer entry %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("end the layer: %w", err)
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(out.Bytes())), nil
	})
}

func orDefault(mode, def int64) int64 {
	if mode == 0 {
		return def
	}
	return mode
}

// Busybox is an image with a static busybox, all its applets, a user "app"
// (uid 1000) and the files /plain (not executable) and /secret (mode 0700).
var Busybox = sync.OnceValues(func() (v1.Image, error) {
	binary, err := os.ReadFile(BusyboxStatic.Path())
	if err != nil {
		return nil, fmt.Errorf("read busybox: %w", err)
	}
	applets, err := exec.Command(BusyboxStatic.Path(), "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	files := []File{
		{Path: "bin", Dir: true}, {Path: "etc", Dir: true}, {Path: "root", Dir: true},
		{Path: "proc", Dir: true}, {Path: "sys", Dir: true}, {Path: "dev", Dir: true},
		{Path: "home", Dir: true}, {Path: "home/app", Dir: true, UID: 1000, GID: 1000},
		{Path: "tmp", Dir: true, Mode: 0o1777}, {Path: "run", Dir: true},
		{Path: "bin/busybox", Mode: 0o755, Content: binary},
		{Path: "etc/passwd", Content: []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")},
		{Path: "etc/group", Content: []byte("root:x:0:\napp:x:1000:\n")},
		{Path: "plain", Content: []byte("not a program\n")},
		{Path: "secret", Mode: 0o700, Content: []byte("#!/bin/sh\necho secret\n")},
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			files = append(files, File{Path: "bin/" + applet, Link: "busybox"})
		}
	}
	layer, err := Layer(files...)
	if err != nil {
		return nil, err
	}
	return Image(empty.Image, []v1.Layer{layer}, v1.Config{
		Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}, WorkingDir: "/",
	})
})

// Image puts layers and a configuration on a base image.
func Image(base v1.Image, layers []v1.Layer, c v1.Config) (v1.Image, error) {
	image, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		return nil, fmt.Errorf("append layers: %w", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the image's configuration: %w", err)
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = "amd64", "linux", c
	return mutate.ConfigFile(image, file)
}

// Archive writes images, by reference, to a file that `docker load` and
// `ctr images import` read.
func Archive(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	tagged := map[name.Tag]v1.Image{}
	for ref, image := range images {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatalf("image name %s: %v", ref, err)
		}
		tagged[tag] = image
	}
	path := filepath.Join(t.TempDir(), "images.tar")
	if err := tarball.MultiWriteToFile(path, tagged); err != nil {
		t.Fatalf("write the image archive: %v", err)
	}
	return path
}

// Import gives the daemon an image and unpacks it; ns is the containerd
// namespace, the daemon's own if empty.
func (d *Daemon) Import(t testing.TB, ns, ref string, image v1.Image) containerd.Image {
	t.Helper()
	archive, err := os.Open(Archive(t, map[string]v1.Image{ref: image}))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	ctx := d.Context(t, ns)
	images, err := d.client.Import(ctx, archive)
	if err != nil {
		t.Fatalf("import %s: %v", ref, err)
	}
	if len(images) != 1 {
		t.Fatalf("import %s: %d images instead of one", ref, len(images))
	}
	imported := containerd.NewImage(d.client, images[0])
	if err := imported.Unpack(ctx, ""); err != nil {
		t.Fatalf("unpack %s: %v", ref, err)
	}
	return imported
}

// Busybox returns the Busybox image in the daemon's namespace, imported on
// first use.
func (d *Daemon) Busybox(t testing.TB) containerd.Image {
	t.Helper()
	d.importing.Lock()
	defer d.importing.Unlock()
	ctx := d.Context(t, "")
	if image, err := d.client.GetImage(ctx, BusyboxRef); err == nil {
		return image
	}
	image, err := Busybox()
	if err != nil {
		t.Fatalf("build the busybox image: %v", err)
	}
	return d.Import(t, "", BusyboxRef, image)
}

// Context ends with the test and carries a containerd namespace: the daemon's
// own if ns is empty.
func (d *Daemon) Context(t testing.TB, ns string) context.Context {
	if ns == "" {
		ns = d.Namespace
	}
	return withNamespace(t.Context(), ns)
}
