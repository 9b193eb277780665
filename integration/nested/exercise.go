// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// Bounds is what an inner quoind's containers are expected in.
type Bounds struct {
	// Base is the cgroup that the inner quoind was given, as the outside sees it.
	Base string
	// Systemd says that the inner quoind's cgroup driver is systemd.
	Systemd bool
	// Flags are further ones for `quoinctl run`.
	Flags string
	// NoPods says that pods cannot run: they always have a weight of the
	// processor, and the cgroup2 of a hybrid machine has no controller of it.
	NoPods bool
}

// container is where a container of the command line's is, and the flags for it.
func (b Bounds) container(name string) (path, flags string) {
	if b.Systemd {
		return "/system.slice/ctr-" + name + ".scope", "--cgroup system.slice:ctr:" + name + " " + b.Flags
	}
	return "/default/" + name, b.Flags
}

// pod is the parent that a kubelet names for a pod, and the directory of that.
func (b Bounds) pod(name string) (parent, dir string) {
	if b.Systemd {
		parent = "kubepods-besteffort-pod" + name + ".slice"
		return parent, "/kubepods.slice/kubepods-besteffort.slice/" + parent
	}
	parent = "/kubepods/besteffort/pod" + name
	return parent, parent
}

// member is where a container of a pod is, below the directory of the pod.
func (b Bounds) member(id string) string {
	if b.Systemd {
		return "/cri-containerd-" + id + ".scope"
	}
	return "/" + id
}

// Containers runs, enters, kills and removes a container of the command line's
// and one of a pod's inside, and checks where each is.
func (i *Inner) Containers(t testing.TB, b Bounds) {
	t.Helper()
	path := i.Start(t, b, "c1", "4321")
	i.Shell(t, "quoinctl tasks exec --detach --exec-id e1 c1 sleep 4322")
	i.CheckPlace(t, b.Base, i.Find(t, "sleep", "4322"), path)
	if got := i.Shell(t, "quoinctl tasks exec --exec-id e2 c1 sh -c 'echo $((6*7))'"); got != "42" {
		t.Errorf("exec says %q", got)
	}
	i.CheckContained(t, b.Base)
	if got := i.Kill(t, "c1"); got != 128+uint32(syscall.SIGKILL) {
		t.Errorf("a killed container exits with %d", got)
	}
	i.Shell(t, "quoinctl tasks rm c1 && quoinctl containers rm c1")
	i.checkGone(t, path)
	if b.NoPods {
		return
	}
	pod := i.RunPod(t, b, "p1")
	answer, err := i.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: pod.container, Cmd: []string{"echo", "hi"}, Timeout: 60})
	if err != nil || string(answer.Stdout) != "hi\n" {
		t.Errorf("exec in the pod: %v, %v", answer, err)
	}
	i.CheckContained(t, b.Base)
	pod.remove(t)
	_, dir := b.pod("p1")
	i.checkGone(t, dir+b.member(pod.container))
	i.checkGone(t, dir+b.member(pod.sandbox))
	i.CheckContained(t, b.Base)
}

// checkGone waits until no hierarchy has the cgroup: systemd takes its time.
func (i *Inner) checkGone(t testing.TB, path string) {
	t.Helper()
	harness.Eventually(t, "the cgroup "+path+" is gone", func() string {
		return i.Shell(t, "find /sys/fs/cgroup -type d -path '*"+path+"'")
	})
}

// Start runs a container of the command line's that sleeps for as many seconds,
// by which its process is known, checks its place and returns the path of that.
func (i *Inner) Start(t testing.TB, b Bounds, name, seconds string) string {
	t.Helper()
	path, flags := b.container(name)
	i.Shell(t, strings.Join([]string{"quoinctl run --detach", flags, harness.BusyboxRef, name, "sleep", seconds}, " "))
	i.CheckPlace(t, b.Base, i.Find(t, "sleep", seconds), path)
	return path
}

// Kill ends a container with SIGKILL and returns its exit code.
func (i *Inner) Kill(t testing.TB, name string) uint32 {
	t.Helper()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(t.Context(), namespaces.Default), patience)
	defer cancel()
	c, err := i.client.LoadContainer(ctx, name)
	if err != nil {
		t.Fatalf("load %s: %v", name, err)
	}
	task, err := c.Task(ctx, nil)
	if err != nil {
		t.Fatalf("the task of %s: %v", name, err)
	}
	exit, err := task.Wait(ctx)
	if err != nil {
		t.Fatalf("wait for %s: %v", name, err)
	}
	i.Shell(t, "quoinctl tasks kill --signal SIGKILL "+name)
	status := <-exit // or the end of ctx
	if err := status.Error(); err != nil {
		t.Fatalf("wait for %s: %v", name, err)
	}
	return status.ExitCode()
}

// Pod is a pod of the host's network with a container that sleeps.
type Pod struct {
	sandbox, container string
	inner              *Inner
}

// RunPod runs a pod as a kubelet would, and checks the place of its container.
func (i *Inner) RunPod(t testing.TB, b Bounds, name string) *Pod {
	t.Helper()
	parent, dir := b.pod(name)
	options := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}
	config := &cri.PodSandboxConfig{
		Metadata:  &cri.PodSandboxMetadata{Name: name, Namespace: "test", Uid: name},
		DnsConfig: &cri.DNSConfig{Servers: []string{"127.0.0.1"}},
		Linux:     &cri.LinuxPodSandboxConfig{CgroupParent: parent, SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: options}},
	}
	sandbox, err := i.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatalf("run the pod %s: %v", name, err)
	}
	p := &Pod{sandbox: sandbox.PodSandboxId, inner: i}
	container, err := i.CreateContainer(t.Context(), &cri.CreateContainerRequest{
		PodSandboxId: p.sandbox, SandboxConfig: config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "c"}, Image: &cri.ImageSpec{Image: harness.BusyboxRef},
			Command: []string{"sleep", "987" + name[1:]},
			Linux:   &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: options}},
		},
	})
	if err != nil {
		t.Fatalf("create a container of the pod %s: %v", name, err)
	}
	p.container = container.ContainerId
	if _, err := i.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: p.container}); err != nil {
		t.Fatalf("start the container of the pod %s: %v", name, err)
	}
	i.CheckPlace(t, b.Base, i.Find(t, "sleep", "987"+name[1:]), dir+b.member(p.container))
	return p
}

func (p *Pod) remove(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.inner.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Errorf("stop the pod: %v", err)
	}
	if _, err := p.inner.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Errorf("remove the pod: %v", err)
	}
}
