// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/json"
	"fmt"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pod is what the runtime has of the pod. A pod that stays as it is gives the
// same twice.
type Pod struct {
	// UID is the kubelet's.
	UID string
	// Members are the sandbox, by the name "", and the containers.
	Members map[string]Member
}

// Member is the sandbox or a container of the pod.
type Member struct {
	ID string
	// PID is its first process.
	PID int
	// Attempt counts from 0; each restart is one more.
	Attempt uint32
	State   string
}

// look asks the runtime for the pod, which has to be the only one.
func (k *Kubelet) look(ctx context.Context) (*Pod, error) {
	sandboxes, err := k.CRI.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the runtime for its pods: %w", err)
	}
	if len(sandboxes.Items) != 1 {
		return nil, fmt.Errorf("the runtime has %d sandboxes instead of one: %v", len(sandboxes.Items), sandboxes.Items)
	}
	sandbox := sandboxes.Items[0]
	status, err := k.CRI.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: sandbox.Id, Verbose: true})
	if err != nil {
		return nil, fmt.Errorf("ask the runtime for the sandbox: %w", err)
	}
	p := &Pod{UID: sandbox.Metadata.Uid, Members: map[string]Member{}}
	if p.Members[""], err = member(sandbox.Id, sandbox.Metadata.Attempt, sandbox.State.String(), status.Info); err != nil {
		return nil, err
	}
	list, err := k.CRI.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the runtime for its containers: %w", err)
	}
	if len(list.Containers) != len(containers) {
		return nil, fmt.Errorf("the runtime has %d containers instead of %d: %v", len(list.Containers), len(containers), list.Containers)
	}
	for _, c := range list.Containers {
		status, err := k.CRI.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.Id, Verbose: true})
		if err != nil {
			return nil, fmt.Errorf("ask the runtime for the container %s: %w", c.Metadata.Name, err)
		}
		if p.Members[c.Metadata.Name], err = member(c.Id, c.Metadata.Attempt, c.State.String(), status.Info); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// member reads what containerd adds to a status that is asked for verbosely.
func member(id string, attempt uint32, state string, info map[string]string) (Member, error) {
	var verbose struct{ PID int }
	if err := json.Unmarshal([]byte(info["info"]), &verbose); err != nil {
		return Member{}, fmt.Errorf("read the verbose status of %s: %w", id, err)
	}
	return Member{ID: id, PID: verbose.PID, Attempt: attempt, State: state}, nil
}
