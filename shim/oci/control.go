// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

// maxOutput bounds what a runtime may print for us: ps lists every pid, features
// every mount option and capability.
const maxOutput = 1 << 20

// State is what a runtime says of a container.
type State struct {
	OCIVersion string `json:"ociVersion"`
	ID         string `json:"id"`
	// Status is creating, created, running, paused (not every runtime) or stopped.
	Status string `json:"status"`
	// Pid of init; 0 when it has stopped.
	Pid         int               `json:"pid"`
	Bundle      string            `json:"bundle"`
	Annotations map[string]string `json:"annotations"`
}

// control runs a short operation; args[0] is its name.
func (r *Runtime) control(ctx context.Context, capture int64, args ...string) ([]byte, error) {
	res, err := r.run(ctx, call{op: args[0], deadline: r.cfg.Deadlines.Control, args: args, capture: capture})
	return res.stdout, err
}

// Pause freezes the container's processes.
func (r *Runtime) Pause(ctx context.Context, id string) error {
	_, err := r.control(ctx, 0, "pause", id)
	return err
}

// Resume thaws the container's processes.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	_, err := r.control(ctx, 0, "resume", id)
	return err
}

// Update changes the container's limits to those of an OCI LinuxResources in
// JSON; what is not in it stays as it is.
func (r *Runtime) Update(ctx context.Context, id string, resources []byte) error {
	file, err := r.tempFile("resources", resources)
	if err != nil {
		return fmt.Errorf("OCI runtime update: %w", err)
	}
	defer os.Remove(file)
	_, err = r.control(ctx, 0, "update", "--resources", file, id)
	return err
}

// Ps lists the pids of the container's processes, as this process sees them.
func (r *Runtime) Ps(ctx context.Context, id string) ([]int, error) {
	data, err := r.control(ctx, maxOutput, "ps", "--format", "json", id)
	if err != nil {
		return nil, err
	}
	var pids []int
	if err := json.Unmarshal(data, &pids); err != nil {
		return nil, r.rubbish("ps", data, err)
	}
	return pids, nil
}

// State asks the runtime for the container's state.
//
// Errors: *Error with errdefs.ErrNotFound for an unknown container.
func (r *Runtime) State(ctx context.Context, id string) (State, error) {
	data, err := r.control(ctx, maxOutput, "state", id)
	if err != nil {
		return State{}, err
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, r.rubbish("state", data, err)
	}
	return s, nil
}

// Features is the runtime's own description (runtime-spec's features.md), raw
// JSON.
//
// Errors: *Error with errdefs.ErrNotImplemented when the runtime is too old to
// have one (runc before 1.1, crun before 1.8.6).
func (r *Runtime) Features(ctx context.Context) ([]byte, error) {
	data, err := r.control(ctx, maxOutput, "features")
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, r.rubbish("features", data, err)
	}
	return data, nil
}

// rubbish is the error for output that is not what it should be.
func (r *Runtime) rubbish(op string, data []byte, err error) error {
	return &Error{Op: op, Message: fmt.Sprintf("%s printed something else than expected (%.80q): %v", r.cfg.Binary, data, err), cause: err}
}
