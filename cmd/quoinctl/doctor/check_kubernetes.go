// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/plugins/cgroupdriver"
)

// checkKubelet tells which kubelets there are and whether they use this daemon.
func checkKubelet(_ context.Context, w *world) Finding {
	if len(w.kubelets) == 0 {
		return good("none runs, and there is no %s", defaultKubeletConfig).with("running", 0)
	}
	k := w.kubelets[0]
	if k.pid == 0 {
		return good("none runs; there is %s", k.config).with("running", 0).with("config", k.config)
	}
	what := fmt.Sprintf("runs as process %d", k.pid)
	if k.minor > 0 {
		what += fmt.Sprintf(", version 1.%d", k.minor)
	}
	f := good("%s, and uses this daemon", what)
	socket := strings.TrimPrefix(k.endpoint, "unix://")
	switch {
	case len(w.kubelets) > 1:
		f = warning("end all but one", "%d run; the first %s", len(w.kubelets), what)
	case socket == "":
		f = good("%s; its runtime's socket is not known", what)
	case socket != w.place.Address:
		f = warning(fmt.Sprintf("set containerRuntimeEndpoint: unix://%s, or look at the other one: quoinctl --address %s doctor", w.place.Address, socket),
			"%s, but uses %s, not %s", what, socket, w.place.Address)
	}
	return f.with("running", len(w.kubelets)).with("pid", k.pid).with("config", k.config).with("endpoint", k.endpoint).with("minor", k.minor)
}

// checkKubeletDriver compares what kubelets were told with the decision.
func checkKubeletDriver(_ context.Context, w *world) Finding {
	if len(w.kubelets) == 0 {
		return good("nothing to compare: there is no kubelet")
	}
	var worst Finding
	for _, k := range w.kubelets {
		f := k.compare(w.node.driver)
		if worst.Status == "" || f.Status == Fail || f.Status == Warn && worst.Status == OK {
			worst = f
		}
	}
	return worst
}

func (k kubelet) compare(want string) Finding {
	asks, known := k.asksRuntime()
	told := k.driver
	return k.judge(want, asks, known).with("told", told).with("source", k.source).with("asks_runtime", asks || !known)
}

func (k kubelet) judge(want string, asks, known bool) Finding {
	fix := fmt.Sprintf("drain the node, set cgroupDriver: %s in %s, restart the kubelet", want, firstOf(k.config, defaultKubeletConfig))
	switch {
	case want == "":
		return warning("settle the cgroup driver first", "not compared: there is no driver to compare with")
	case k.configErr != nil:
		return warning(asRoot, "%s cannot be read: %v", k.config, k.configErr)
	case k.driver == want:
		return good("%s, by %s", k.driver, k.source)
	case k.driver == "" && (asks || !known):
		return good("not set: the kubelet takes the runtime's (since 1.31)")
	case k.driver == "" && want == cgroupfs:
		return good("not set, which means cgroupfs")
	case k.driver == "":
		return failure(fix, "not set, which means cgroupfs to this kubelet, which does not ask the runtime; the node's is %s", want)
	case asks:
		return warning(fmt.Sprintf("take cgroupDriver out of %s", firstOf(k.config, k.source)),
			"%s, by %s, and the node's is %s: the kubelet ignores it and takes the runtime's", k.driver, k.source, want)
	case !known:
		return warning(fix, "%s, by %s, but the node's is %s: a kubelet before 1.31 would follow it", k.driver, k.source, want)
	}
	return failure(fix, "%s, by %s, but the node's is %s: pods will not start, or be killed again and again", k.driver, k.source, want)
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// checkRuntimeConfig asks CRI what the kubelet asks it.
func checkRuntimeConfig(ctx context.Context, w *world) Finding {
	switch w.daemon.reach {
	case answers:
	case denied:
		return warning(asRoot, "not asked: only root may")
	case silent:
		return warning("see what is wrong with the daemon", "not asked: the daemon does not answer")
	default:
		return warning("start quoind, then run quoinctl doctor again", "not asked: no daemon runs")
	}
	response, err := cri.NewRuntimeServiceClient(w.daemon.conn).RuntimeConfig(ctx, &cri.RuntimeConfigRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return warning("take io.containerd.grpc.v1.cri out of disabled_plugins, if this is to be a node",
			"%s serves no CRI, or one without RuntimeConfig", w.daemon.name())
	case err != nil:
		return failure("look at the daemon's log", "CRI does not answer: %v", rpcError(err))
	}
	said := cgroupfs
	switch {
	case response.GetLinux() == nil:
		return failure("look at the daemon's log", "CRI names no cgroup driver")
	case response.Linux.CgroupDriver == cri.CgroupDriver_SYSTEMD:
		said = systemd
	}
	f := good("says %s, as the decision does", said)
	if w.node.driver != "" && said != w.node.driver {
		f = failure(fmt.Sprintf("set SystemdCgroup = %t in the options of every runtime of runc's type, and restart %s", w.node.driver == systemd, w.daemon.name()),
			"says %s to the kubelet, but containers are placed by %s", said, w.node.driver)
	}
	return f.with("driver", said)
}

// checkPods tells by which driver the pods that run were made.
func checkPods(_ context.Context, w *world) Finding {
	if err := w.node.factsErr; err != nil {
		return warning("mount proc on /proc and cgroup2 on /sys/fs/cgroup", "not looked at: %v", err)
	}
	pods := w.node.facts.Pods
	drivers := []string{}
	for _, p := range pods {
		drivers = append(drivers, string(p.Driver))
	}
	return podsFinding(pods, w.node.driver).with("drivers", drivers)
}

func podsFinding(pods []cgroupdriver.Pods, want string) Finding {
	const drain = "drain the node (kubectl drain), reboot it, and let it start with one driver"
	switch {
	case len(pods) == 0:
		return good("none: there are no processes below kubepods.slice or kubepods")
	case len(pods) > 1:
		return failure(drain, "pods of both drivers run, below %s and below %s", pods[0].Path, pods[1].Path)
	case want != "" && string(pods[0].Driver) != want:
		return failure(drain, "pods run below %s, which the %s driver made; the node's is %s", pods[0].Path, pods[0].Driver, want)
	}
	return good("run below %s, made by the %s driver", pods[0].Path, pods[0].Driver)
}
