// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/config"
)

// healthy is a node where everything is in order: files by path, directories
// with a slash at the end, links with "-> target", programs with "#!".
var healthy = map[string]string{
	"/proc/1/comm":                                                 "systemd\n",
	"/sbin/init":                                                   "-> /lib/systemd/systemd",
	"/run/systemd/system/":                                         "",
	"/proc/self/mountinfo":                                         "20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,prjquota\n24 20 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
	"/proc/self/cgroup":                                            "0::/user.slice/session-1.scope\n",
	"/proc/self/uid_map":                                           "0 0 4294967295\n",
	"/proc/self/status":                                            "Name:\tquoinctl\nCapBnd:\t000001ffffffffff\n",
	"/proc/self/ns/pid":                                            "-> pid:[4026531836]",
	"/proc/self/ns/mnt":                                            "-> mnt:[1]",
	"/proc/filesystems":                                            "nodev\tproc\nnodev\toverlay\n\text4\n",
	"/proc/sys/kernel/osrelease":                                   "6.12.5-amd64\n",
	"/proc/sys/kernel/random/boot_id":                              "boot-1\n",
	"/proc/sys/kernel/pid_max":                                     "4194304\n",
	"/proc/sys/kernel/threads-max":                                 "192730\n",
	"/proc/sys/fs/inotify/max_user_instances":                      "8192\n",
	"/proc/sys/fs/inotify/max_user_watches":                        "524288\n",
	"/proc/sys/fs/quota/":                                          "",
	"/proc/sys/user/max_user_namespaces":                           "96365\n",
	"/sys/fs/cgroup/cgroup.controllers":                            "cpuset cpu io memory hugetlb pids\n",
	"/sys/fs/cgroup/kubepods.slice/cgroup.events":                  "populated 1\n",
	"/sys/fs/cgroup/user.slice/session-1.scope/cgroup.procs":       "7\n",
	"/sys/fs/cgroup/user.slice/session-1.scope/cgroup.controllers": "memory pids\n",
	"/usr/lib/systemd/system/quoind.service":                       "[Service]\nExecStart=/usr/local/bin/quoind\nDelegate=yes\nKillMode=process\n",
	"/usr/local/bin/containerd-shim-quoin-v1":                      "#!/bin/sh\necho x:; echo '  Version:  " + config.Version + "'; echo '  Revision: " + config.Revision + "'\n",
	"/usr/bin/runc":                                                "#!/bin/sh\necho runc version 1.5.2; echo spec: 1.3.0\n",
	"/var/lib/kubelet/config.yaml":                                 "kind: KubeletConfiguration\ncgroupDriver: systemd\ncontainerRuntimeEndpoint: unix:///run/quoind/quoind.sock\n",
	"/proc/77/comm":                                                "kubelet\n",
	"/proc/77/cmdline":                                             "/usr/bin/kubelet\x00--config=/var/lib/kubelet/config.yaml\x00",
	"/proc/77/ns/mnt":                                              "-> mnt:[1]",
	"/proc/77/exe":                                                 "#!/bin/sh\necho Kubernetes v1.37.2\n",
	"/var/lib/quoind/":                                             "0700",
	"/run/quoind/":                                                 "0711",
	"/run/quoind/s/":                                               "0700",
	"/run/quoind/io.containerd.runtime.v2.task/":                   "0711",
	"/run/quoind/io.containerd.runtime.v2.task/k8s.io/c1/config.json": `{"linux":{"cgroupsPath":"kubepods-pod1.slice:cri-containerd:c1"}}`,
	"/run/quoind/io.containerd.runtime.v2.task/k8s.io/c2/config.json": `{"linux":{"cgroupsPath":"system.slice:cri-containerd:c2"}}`,
}

// fixture is a healthy node with changes, and the daemon on it.
type fixture struct {
	*host
	daemon *fakeDaemon
}

// gone as a file's content takes it away.
const gone = "-"

// node makes the fixture. A root of its own, short since sockets are in it.
func newFixture(t *testing.T, change map[string]string) fixture {
	t.Helper()
	root, err := os.MkdirTemp("", "doc")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(root)) })
	files := maps.Clone(healthy)
	maps.Copy(files, change)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		place(t, root+name, name, files[name])
	}
	k := realKernel()
	k.statfs = func(string) (usage, error) {
		return usage{size: 100 << 30, free: 60 << 30, inodes: 1000, inodesFree: 900}, nil
	}
	k.entryTypes = func(string) (bool, bool, error) { return true, true, nil }
	k.idmap = func(string) error { return nil }
	h := &host{root: root, self: "/usr/local/bin/quoinctl", envPath: "/usr/local/bin:/usr/bin", kernel: k,
		deadlines: deadlines{gather: time.Minute, check: time.Minute, grace: time.Minute},
		askUnit:   func(context.Context) (string, error) { return "session-1.scope", nil }}
	return fixture{h, &fakeDaemon{pidns: 4026531836, driver: cri.CgroupDriver_SYSTEMD, plugins: healthyPlugins()}}
}

func place(t *testing.T, full, name, content string) {
	t.Helper()
	if content == gone {
		return
	}
	must(t, os.MkdirAll(filepath.Dir(full), 0o755))
	target, isLink := strings.CutPrefix(content, "-> ")
	switch {
	case strings.HasSuffix(name, "/"):
		mode := os.FileMode(0o755)
		if content != "" {
			_, err := fmt.Sscanf(content, "%o", &mode)
			must(t, err)
		}
		must(t, os.MkdirAll(full, 0o755))
		must(t, os.Chmod(full, mode))
	case isLink:
		must(t, os.Symlink(target, full))
	case strings.HasPrefix(content, "#!"):
		must(t, os.WriteFile(full, []byte(content), 0o755))
	default:
		must(t, os.WriteFile(full, []byte(content), 0o644))
	}
}

func healthyPlugins() []*introspection.Plugin {
	return []*introspection.Plugin{
		{Type: "io.quoin.runtime.v1", ID: "quoin", Exports: map[string]string{"version": config.Version}},
		{Type: "io.quoin.node.v1", ID: "cgroupdriver", Exports: map[string]string{
			"driver": "systemd", "setting": "auto", "reasons": "systemd answers on D-Bus and runs this daemon as quoind.service",
			"systemd": "true", "cgroup": "/system.slice/quoind.service", "delegated": "true", "user_namespace": "false", "state": "/run/quoind",
		}},
		{Type: "io.containerd.content.v1", ID: "content", Exports: map[string]string{"root": "/var/lib/quoind/io.containerd.content.v1.content"}},
	}
}

// serve starts the daemon of the fixture on its socket.
func (f fixture) serve(t *testing.T) fixture {
	t.Helper()
	f.listen(t, "/run/quoind/quoind.sock.ttrpc")
	l := f.listen(t, "/run/quoind/quoind.sock")
	server := grpc.NewServer()
	introspection.RegisterIntrospectionServer(server, f.daemon)
	cri.RegisterRuntimeServiceServer(server, fakeCRI{daemon: f.daemon})
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		must(t, <-done)
	})
	return f
}

// listen makes a socket that nobody answers.
func (f fixture) listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", f.at(path))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	must(t, os.Chmod(f.at(path), 0o660))
	return l
}

// find returns the one finding of an id.
func (r *Report) find(t *testing.T, id string) Finding {
	t.Helper()
	for _, f := range r.Findings {
		if f.ID == id {
			return f
		}
	}
	t.Fatalf("no finding %q", id)
	return Finding{}
}

type fakeDaemon struct {
	introspection.UnimplementedIntrospectionServer
	pid     uint64
	pidns   uint64
	plugins []*introspection.Plugin
	driver  cri.CgroupDriver
	noCRI   bool
	// broken CRI answers with an error, a mute one names no driver.
	broken, mute bool
}

func (d *fakeDaemon) Server(context.Context, *emptypb.Empty) (*introspection.ServerResponse, error) {
	return &introspection.ServerResponse{UUID: "u", Pid: d.pid, Pidns: d.pidns}, nil
}

func (d *fakeDaemon) Plugins(context.Context, *introspection.PluginsRequest) (*introspection.PluginsResponse, error) {
	return &introspection.PluginsResponse{Plugins: d.plugins}, nil
}

type fakeCRI struct {
	cri.UnimplementedRuntimeServiceServer
	daemon *fakeDaemon
}

func (c fakeCRI) RuntimeConfig(context.Context, *cri.RuntimeConfigRequest) (*cri.RuntimeConfigResponse, error) {
	switch {
	case c.daemon.noCRI:
		return nil, status.Error(codes.Unimplemented, "unknown service")
	case c.daemon.broken:
		return nil, status.Error(codes.Internal, "it broke")
	case c.daemon.mute:
		return &cri.RuntimeConfigResponse{}, nil
	}
	return &cri.RuntimeConfigResponse{Linux: &cri.LinuxRuntimeConfiguration{CgroupDriver: c.daemon.driver}}, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
