// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// imageRef names the image; nothing is at that registry.
const imageRef = "quoin.test/demo:1"

// writeImage writes an archive with one image: this program and the mount
// points that a container needs.
func writeImage(path string) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	text, err := layerText(program)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text)), nil
	})
	if err != nil {
		return fmt.Errorf("making the image's layer: %w", err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return fmt.Errorf("making the image: %w", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return fmt.Errorf("making the image: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Entrypoint: []string{"/demo", insideArg}, WorkingDir: "/"}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return fmt.Errorf("making the image: %w", err)
	}
	tag, err := name.NewTag(imageRef)
	if err != nil {
		return fmt.Errorf("naming the image: %w", err)
	}
	if err := tarball.WriteToFile(path, tag, image); err != nil {
		return fmt.Errorf("writing the image to %s: %w", path, err)
	}
	return nil
}

func layerText(program []byte) ([]byte, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, dir := range []string{"dev/", "proc/", "sys/", "run/", "etc/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return nil, fmt.Errorf("making the image's layer: %w", err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "demo", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, fmt.Errorf("making the image's layer: %w", err)
	}
	if _, err := w.Write(program); err != nil {
		return nil, fmt.Errorf("making the image's layer: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("making the image's layer: %w", err)
	}
	return text.Bytes(), nil
}
