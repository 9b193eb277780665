// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

// defaultKubeletConfig is where kubeadm puts the kubelet's configuration.
const defaultKubeletConfig = "/var/lib/kubelet/config.yaml"

// kubelet is one that runs (or, with pid 0, only its configuration file).
type kubelet struct {
	pid int
	// config is its configuration file; "" when it has none.
	config string
	// configErr says why the file could not be read.
	configErr error
	// driver is what it was told, "" when nothing; source names the flag or
	// file that did.
	driver, source string
	// endpoint is its container runtime's socket, "" when not known.
	endpoint string
	// fromCRI is the feature gate KubeletCgroupDriverFromCRI, nil when unset.
	fromCRI *bool
	// minor of its version 1.x; 0 when not known.
	minor int
}

// kubeletConfig is what is looked at of a KubeletConfiguration
// (kubelet.config.k8s.io/v1beta1).
type kubeletConfig struct {
	CgroupDriver string          `json:"cgroupDriver"`
	Endpoint     string          `json:"containerRuntimeEndpoint"`
	FeatureGates map[string]bool `json:"featureGates"`
}

const driverGate = "KubeletCgroupDriverFromCRI"

// findKubelets returns the running ones; if there is none, and the usual
// configuration file is there, one without pid.
func findKubelets(ctx context.Context, h *host) []kubelet {
	entries, err := os.ReadDir(h.at("/proc"))
	if err != nil {
		return nil
	}
	var out []kubelet
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || h.line("/proc/"+e.Name()+"/comm") != "kubelet" {
			continue
		}
		cmdline, err := h.read("/proc/" + e.Name() + "/cmdline")
		if args := strings.Split(strings.TrimSuffix(cmdline, "\x00"), "\x00"); err == nil && cmdline != "" {
			out = append(out, h.runningKubelet(ctx, pid, args))
		}
	}
	if len(out) > 0 || !h.exists(defaultKubeletConfig) {
		return out
	}
	k := kubelet{config: defaultKubeletConfig}
	k.readConfig(func() (string, error) { return h.read(defaultKubeletConfig) })
	return []kubelet{k}
}

// runningKubelet reads the configuration as the kubelet does: the file, then
// the drop-ins, then the flags.
func (h *host) runningKubelet(ctx context.Context, pid int, args []string) kubelet {
	flags := parseFlags(args[1:])
	k := kubelet{pid: pid, config: flags["config"], minor: h.kubeletMinor(ctx, pid)}
	// It may run in a container, with a root of its own.
	own := "/proc/" + strconv.Itoa(pid) + "/root"
	if k.config != "" {
		k.readConfig(func() (string, error) {
			text, err := h.read(own + k.config)
			if err != nil {
				text, err = h.read(k.config)
			}
			return text, err
		})
	}
	if dir := flags["config-dir"]; dir != "" {
		for _, base := range []string{own, ""} {
			files, _ := filepath.Glob(h.at(base + dir + "/*.conf"))
			slices.Sort(files)
			for _, file := range files {
				k.config = strings.TrimPrefix(file, h.at(base))
				k.readConfig(func() (string, error) { return h.read(base + k.config) })
			}
			if len(files) > 0 {
				break
			}
		}
		k.config = flags["config"]
	}
	if d := flags["cgroup-driver"]; d != "" {
		k.driver, k.source = d, "the flag --cgroup-driver"
	}
	override(&k.endpoint, flags["container-runtime-endpoint"])
	k.readGate(flags["feature-gates"])
	return k
}

func (k *kubelet) readConfig(read func() (string, error)) {
	text, err := read()
	if err != nil {
		k.configErr = err
		return
	}
	var c kubeletConfig
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		k.configErr = err
		return
	}
	if c.CgroupDriver != "" {
		k.driver, k.source = c.CgroupDriver, k.config
	}
	override(&k.endpoint, c.Endpoint)
	if v, ok := c.FeatureGates[driverGate]; ok {
		k.fromCRI = &v
	}
}

func (k *kubelet) readGate(flag string) {
	for gate := range strings.SplitSeq(flag, ",") {
		if name, value, _ := strings.Cut(gate, "="); strings.TrimSpace(name) == driverGate {
			if v, err := strconv.ParseBool(strings.TrimSpace(value)); err == nil {
				k.fromCRI = &v
			}
		}
	}
}

// asksRuntime tells whether the kubelet takes its driver from the runtime
// (RuntimeConfig): by default since 1.31, always since 1.34.
func (k *kubelet) asksRuntime() (asks, known bool) {
	switch {
	case k.minor >= 34:
		return true, true
	case k.fromCRI != nil && (k.minor == 0 || k.minor >= 28):
		return *k.fromCRI, true
	case k.minor == 0:
		return false, false
	}
	return k.minor >= 31, true
}

// kubeletMinor asks the running program for its version. Anybody may call a
// process kubelet, so only one is executed that already is root on this host:
// of user 0, in our own mount namespace.
func (h *host) kubeletMinor(ctx context.Context, pid int) int {
	dir := "/proc/" + strconv.Itoa(pid)
	theirs, err := os.Readlink(h.at(dir + "/ns/mnt"))
	if err != nil {
		return 0
	}
	ours, err := os.Readlink(h.at("/proc/self/ns/mnt"))
	if err != nil || ours != theirs {
		return 0
	}
	var st unix.Stat_t
	if unix.Stat(h.at(dir), &st) != nil || st.Uid != 0 {
		return 0
	}
	out, err := h.output(ctx, dir+"/exe", "--version")
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(out, "v1.")
	if !ok {
		return 0
	}
	minor, _, _ := strings.Cut(rest, ".")
	n, _ := strconv.Atoi(strings.TrimSpace(minor))
	return n
}

// parseFlags reads --name=value and --name value; the last of a name counts.
func parseFlags(args []string) map[string]string {
	out := map[string]string{}
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "--")
		if !isFlag {
			continue
		}
		name, value, has := strings.Cut(name, "=")
		if !has && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			i++
			value = args[i]
		}
		out[name] = value
	}
	return out
}
