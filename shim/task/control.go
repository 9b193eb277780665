// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quoin-io/quoin/shim/container"
)

func (s *Service) pause(ctx context.Context, r *task.PauseRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	return empty, c.Pause(ctx)
}

func (s *Service) resume(ctx context.Context, r *task.ResumeRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	return empty, c.Resume(ctx)
}

func (s *Service) resizePty(_ context.Context, r *task.ResizePtyRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	return empty, c.Resize(r.ExecID, uint16(r.Width), uint16(r.Height))
}

func (s *Service) closeIO(_ context.Context, r *task.CloseIORequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	// Whatever Stdin says: the runc shim closes it always, and old clients rely
	// on that.
	return empty, c.CloseStdin(r.ExecID)
}

func (s *Service) update(ctx context.Context, r *task.UpdateTaskRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	if err := required("resources", r.Resources != nil); err != nil {
		return nil, fmt.Errorf("update container %q: %w", r.ID, err)
	}
	return empty, c.Update(ctx, r.Resources.Value)
}

func (s *Service) stats(ctx context.Context, r *task.StatsRequest) (*task.StatsResponse, error) {
	c, err := s.look(r.ID)
	if err != nil {
		return nil, err
	}
	stats, err := c.Stats(ctx)
	if err != nil {
		return nil, err
	}
	return &task.StatsResponse{Stats: stats}, nil
}

func (s *Service) pids(ctx context.Context, r *task.PidsRequest) (*task.PidsResponse, error) {
	c, err := s.look(r.ID)
	if err != nil {
		return nil, err
	}
	infos, err := c.Pids(ctx)
	if err != nil {
		return nil, err
	}
	resp := &task.PidsResponse{}
	for _, i := range infos {
		p := &tasktypes.ProcessInfo{Pid: uint32(i.Pid)}
		if i.Exec != "" {
			if p.Info, err = details(i.Exec); err != nil {
				return nil, err
			}
		}
		resp.Processes = append(resp.Processes, p)
	}
	return resp, nil
}

// details say which exec a process is, as the runc shim says it: containerd's
// clients decode nothing else.
func details(exec string) (*anypb.Any, error) {
	a, err := typeurl.MarshalAnyToProto(&options.ProcessDetails{ExecID: exec})
	if err != nil {
		return nil, fmt.Errorf("encode the details of exec %q: %w", exec, err)
	}
	return a, nil
}

func (s *Service) checkpoint(ctx context.Context, r *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	var o options.CheckpointOptions
	if r.Options != nil {
		if err := typeurl.UnmarshalTo(r.Options, &o); err != nil {
			return nil, fmt.Errorf("checkpoint options of container %q: %w: %w", r.ID, err, errdefs.ErrInvalidArgument)
		}
	}
	if r.Path != "" {
		o.ImagePath = r.Path
	}
	return empty, c.Checkpoint(ctx, container.CheckpointOptions{
		ImagePath:           o.ImagePath,
		WorkPath:            o.WorkPath,
		ParentPath:          o.ParentPath,
		LeaveRunning:        !o.Exit,
		TCPEstablished:      o.OpenTcp,
		ExternalUnixSockets: o.ExternalUnixSockets,
		ShellJob:            o.Terminal,
		FileLocks:           o.FileLocks,
		EmptyNamespaces:     o.EmptyNamespaces,
		CgroupsMode:         o.CgroupsMode,
	})
}
