// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestImages pulls from a real registry by a name that its hosts.toml maps.
func TestImages(t *testing.T) {
	t.Parallel()
	n := node(t)
	address := harness.ServeRegistry(t)
	ref := address + "/team/app:1"
	push(t, n, ref)
	mapRegistry(t, n, address)

	spec := &cri.ImageSpec{Image: ref}
	pulled, err := n.Images.PullImage(t.Context(), &cri.PullImageRequest{Image: spec})
	if err != nil {
		t.Fatalf("pull: %v", err)
	}
	status, err := n.Images.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: spec})
	if err != nil || status.Image == nil {
		t.Fatalf("status: %v, %v", status, err)
	}
	if status.Image.Id != pulled.ImageRef || status.Image.Size == 0 {
		t.Errorf("status %v after pulling %s", status.Image, pulled.ImageRef)
	}
	if !slices.Contains(listed(t, n), ref) {
		t.Errorf("%s is not in the list %v", ref, listed(t, n))
	}
	usage, err := n.Images.ImageFsInfo(t.Context(), &cri.ImageFsInfoRequest{})
	if err != nil || len(usage.ImageFilesystems) == 0 {
		t.Errorf("image file systems: %v, %v", usage, err)
	}

	pod := n.RunPod(t, "pulled")
	m := pod.Run(t, "app", []string{"sleep", "1000"}, func(c *cri.ContainerConfig) { c.Image = spec })
	if got := m.Shell(t, "echo runs"); got != "runs" {
		t.Errorf("output %q of a container of the pulled image", got)
	}

	if _, err := n.Images.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: spec}); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if slices.Contains(listed(t, n), ref) {
		t.Errorf("%s is still listed after its removal", ref)
	}
	// Removing what is not there is no error for kubelet.
	if _, err := n.Images.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: spec}); err != nil {
		t.Errorf("remove again: %v", err)
	}
	if _, err := n.Images.PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: address + "/team/absent:1"}}); err == nil {
		t.Error("an image that does not exist was pulled")
	}
}

func listed(t *testing.T, n *harness.Node) []string {
	t.Helper()
	list, err := n.Images.ListImages(t.Context(), &cri.ListImagesRequest{})
	if err != nil {
		t.Fatalf("list images: %v", err)
	}
	var refs []string
	for _, image := range list.Images {
		refs = append(refs, image.RepoTags...)
	}
	return refs
}

// push puts an image into the registry and leaves nothing of it in the node.
// It differs from busybox's: CRI removes all names of an image at once.
func push(t *testing.T, n *harness.Node, ref string) {
	t.Helper()
	busybox, err := harness.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	app, err := harness.Image(busybox, nil, v1.Config{Env: []string{"PATH=/bin", "APP=1"}})
	if err != nil {
		t.Fatal(err)
	}
	image := n.Import(t, "", ref, app)
	ctx := n.Context(t, "")
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts))})
	if err := n.Client().Push(ctx, ref, image.Target(), containerd.WithResolver(resolver)); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	if err := n.Client().ImageService().Delete(ctx, ref, images.SynchronousDelete()); err != nil {
		t.Fatalf("remove %s: %v", ref, err)
	}
}

func mapRegistry(t *testing.T, n *harness.Node, address string) {
	t.Helper()
	dir := filepath.Join(n.CRI.RegistryConfigDir, address)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	hosts := fmt.Sprintf("server = %q\n\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", "http://"+address, "http://"+address)
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
}
