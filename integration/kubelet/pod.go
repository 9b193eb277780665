// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/quoin-io/quoin/integration/harness"
)

const (
	// podName is the pod's name in its manifest; the node's name is added to it.
	podName = "steady"
	// MemoryLimit is each container's, in bytes: 48Mi in the manifest.
	MemoryLimit = 48 << 20
)

// containers are the names of the pod's containers.
var containers = []string{"writer", "reader"}

// manifest is a pod of two containers that share a volume in memory, which the
// kubelet has to mount and to unmount. Its probes are commands, so that each of
// them is a process that somebody adds to the container. It needs no network
// of its own: the node has no network plugin to be ready.
const manifest = `apiVersion: v1
kind: Pod
metadata: {name: ` + podName + `, namespace: kube-system}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 20
  volumes:
  - {name: shared, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  containers:
  - name: writer
    image: ` + harness.BusyboxRef + `
    imagePullPolicy: Never
    command: [sh, -c, "trap 'exit 0' TERM; echo up >/shared/up; while :; do sleep 1000 & wait $!; done"]
    volumeMounts: [{name: shared, mountPath: /shared}]
    resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {memory: 48Mi}}
    livenessProbe: {exec: {command: [grep, -q, up, /shared/up]}, periodSeconds: 5, timeoutSeconds: 30}
  - name: reader
    image: ` + harness.BusyboxRef + `
    imagePullPolicy: Never
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"]
    volumeMounts: [{name: shared, mountPath: /shared, readOnly: true}]
    resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {memory: 48Mi}}
    readinessProbe: {exec: {command: [test, -s, /shared/up]}, periodSeconds: 5, timeoutSeconds: 30}
`

func (s Settings) manifest() string { return filepath.Join(s.manifests(), podName+".yaml") }

// AddPod gives the kubelet the pod.
func (s Settings) AddPod() error {
	// Whole or not at all: the kubelet may look at any time. It takes no notice
	// of names that begin with a dot.
	partial := filepath.Join(s.manifests(), "."+podName)
	if err := os.WriteFile(partial, []byte(manifest), 0o644); err != nil {
		return fmt.Errorf("write the pod's manifest: %w", err)
	}
	if err := os.Rename(partial, s.manifest()); err != nil {
		return fmt.Errorf("put the pod's manifest in its place: %w", err)
	}
	return nil
}

// RemovePod takes the pod from the kubelet, which ends it.
func (s Settings) RemovePod() error {
	if err := os.Remove(s.manifest()); err != nil {
		return fmt.Errorf("remove the pod's manifest: %w", err)
	}
	return nil
}
