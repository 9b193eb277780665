// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// readOnlyPort is where the kubelet tells anybody on the machine about its pods.
const readOnlyPort = 10255

// syncs is the metric that counts how often pods were synchronized because
// their time had come.
const syncs = `kubelet_pod_worker_duration_seconds_count{operation_type="sync"}`

// podStatus is what the tests read of a pod that the kubelet tells of.
type podStatus struct {
	Metadata struct{ Name, UID string }
	Status   struct {
		Phase             string
		Conditions        []struct{ Type, Status string }
		ContainerStatuses []struct {
			Name         string
			Ready        bool
			RestartCount int
		}
	}
}

// ready says why the pod is not ready; "" if it is.
func (p podStatus) ready() string {
	if len(p.Status.ContainerStatuses) != len(containers) {
		return fmt.Sprintf("%s, with %d containers", p.Status.Phase, len(p.Status.ContainerStatuses))
	}
	for _, c := range p.Status.ContainerStatuses {
		if !c.Ready {
			return fmt.Sprintf("%s, and the container %s is not ready", p.Status.Phase, c.Name)
		}
	}
	if p.Status.Phase != "Running" {
		return p.Status.Phase
	}
	return ""
}

// pods asks the kubelet for its pods.
func pods(ctx context.Context) ([]podStatus, error) {
	text, err := get(ctx, "/pods")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []podStatus }
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read the kubelet's list of pods: %w", err)
	}
	return list.Items, nil
}

// synced asks the kubelet how often it has synchronized pods.
func synced(ctx context.Context) (int, error) {
	text, err := get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if count, ok := strings.CutPrefix(line, syncs); ok {
			return strconv.Atoi(strings.TrimSpace(count))
		}
	}
	return 0, nil // it appears with the first
}

func get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", readOnlyPort, path), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the kubelet for %s: %w", path, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the kubelet for %s: %w", path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the kubelet for %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the kubelet for %s: %s: %.200s", path, response.Status, bytes.TrimSpace(body))
	}
	return body, nil
}
