// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
)

// Settings are what is told a kubelet.
type Settings struct {
	// Dir is where all goes that the kubelet keeps.
	Dir string
	// Socket is the path of the CRI's socket.
	Socket string
	// Driver is the cgroup driver in the configuration file. Only a runtime that
	// does not tell its own makes the kubelet use it.
	Driver string
	// CgroupRoot is an existing cgroup, in each hierarchy, to put pods below.
	CgroupRoot string
}

// configuration leaves the node alone: nothing is evicted, no image collected,
// nobody asked who they are. Pods are looked at far more often than by default.
const configuration = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%s
cgroupDriver: %s
cgroupRoot: %s
staticPodPath: %s
podLogsDir: %s
volumePluginDir: %s
failCgroupV1: false
failSwapOn: false
syncFrequency: 3s
fileCheckFrequency: 1s
readOnlyPort: %d
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
evictionHard: {memory.available: 0%%, nodefs.available: 0%%, nodefs.inodesFree: 0%%, imagefs.available: 0%%, imagefs.inodesFree: 0%%}
imageGCHighThresholdPercent: 100
`

// Write makes the kubelet's files and returns its arguments.
func (s Settings) Write() ([]string, error) {
	for _, dir := range []string{s.manifests(), s.logs(), s.Root()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the kubelet's directory: %w", err)
		}
	}
	file := filepath.Join(s.Dir, "kubelet.yaml")
	text := fmt.Sprintf(configuration, s.Socket, s.Driver, s.CgroupRoot, s.manifests(), s.logs(),
		filepath.Join(s.Dir, "plugins"), readOnlyPort)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("write the kubelet's configuration: %w", err)
	}
	return []string{
		"--config=" + file,
		"--root-dir=" + s.Root(),
		"--cert-dir=" + filepath.Join(s.Dir, "pki"),
		"--hostname-override=node",
		"--v=2",
	}, nil
}

func (s Settings) manifests() string { return filepath.Join(s.Dir, "manifests") }
func (s Settings) logs() string      { return filepath.Join(s.Dir, "pods") }

// Root is the kubelet's own directory, below which it mounts volumes.
func (s Settings) Root() string { return filepath.Join(s.Dir, "root") }
