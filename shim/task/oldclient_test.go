// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"

	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/runtime/task/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// oldClient lets a client of version 2 be used like one of version 3.
type oldClient struct{ taskv2.TTRPCTaskService }

// as gives a message the type that the other version has for it.
func as[To proto.Message](from proto.Message, to To) To {
	data, err := proto.Marshal(from)
	if err == nil {
		err = proto.Unmarshal(data, to)
	}
	if err != nil {
		panic(err) // both are what the test made
	}
	return to
}

func (c *oldClient) State(ctx context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	resp, err := c.TTRPCTaskService.State(ctx, as(r, &taskv2.StateRequest{}))
	if err != nil {
		return nil, err
	}
	return as(resp, &task.StateResponse{}), nil
}

func (c *oldClient) Create(ctx context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	resp, err := c.TTRPCTaskService.Create(ctx, as(r, &taskv2.CreateTaskRequest{}))
	if err != nil {
		return nil, err
	}
	return as(resp, &task.CreateTaskResponse{}), nil
}

func (c *oldClient) Start(ctx context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	resp, err := c.TTRPCTaskService.Start(ctx, as(r, &taskv2.StartRequest{}))
	if err != nil {
		return nil, err
	}
	return as(resp, &task.StartResponse{}), nil
}

func (c *oldClient) Delete(ctx context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	resp, err := c.TTRPCTaskService.Delete(ctx, as(r, &taskv2.DeleteRequest{}))
	if err != nil {
		return nil, err
	}
	return as(resp, &task.DeleteResponse{}), nil
}

func (c *oldClient) Pids(ctx context.Context, r *task.PidsRequest) (*task.PidsResponse, error) {
	resp, err := c.TTRPCTaskService.Pids(ctx, as(r, &taskv2.PidsRequest{}))
	if err != nil {
		return nil, err
	}
	return as(resp, &task.PidsResponse{}), nil
}

func (c *oldClient) Wait(ctx context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	resp, err := c.TTRPCTaskService.Wait(ctx, as(r, &taskv2.WaitRequest{}))
	if err != nil {
		return nil, err
	}
	return as(resp, &task.WaitResponse{}), nil
}

func (c *oldClient) Stats(ctx context.Context, r *task.StatsRequest) (*task.StatsResponse, error) {
	resp, err := c.TTRPCTaskService.Stats(ctx, as(r, &taskv2.StatsRequest{}))
	if err != nil {
		return nil, err
	}
	return as(resp, &task.StatsResponse{}), nil
}

func (c *oldClient) Connect(ctx context.Context, r *task.ConnectRequest) (*task.ConnectResponse, error) {
	resp, err := c.TTRPCTaskService.Connect(ctx, as(r, &taskv2.ConnectRequest{}))
	if err != nil {
		return nil, err
	}
	return as(resp, &task.ConnectResponse{}), nil
}

func (c *oldClient) Pause(ctx context.Context, r *task.PauseRequest) (*emptypb.Empty, error) {
	return c.TTRPCTaskService.Pause(ctx, as(r, &taskv2.PauseRequest{}))
}

func (c *oldClient) Resume(ctx context.Context, r *task.ResumeRequest) (*emptypb.Empty, error) {
	return c.TTRPCTaskService.Resume(ctx, as(r, &taskv2.ResumeRequest{}))
}

func (c *oldClient) Checkpoint(ctx context.Context, r *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return c.TTRPCTaskService.Checkpoint(ctx, as(r, &taskv2.CheckpointTaskRequest{}))
}

func (c *oldClient) Kill(ctx context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	return c.TTRPCTaskService.Kill(ctx, as(r, &taskv2.KillRequest{}))
}

func (c *oldClient) Exec(ctx context.Context, r *task.ExecProcessRequest) (*emptypb.Empty, error) {
	return c.TTRPCTaskService.Exec(ctx, as(r, &taskv2.ExecProcessRequest{}))
}

func (c *oldClient) ResizePty(ctx context.Context, r *task.ResizePtyRequest) (*emptypb.Empty, error) {
	return c.TTRPCTaskService.ResizePty(ctx, as(r, &taskv2.ResizePtyRequest{}))
}

func (c *oldClient) CloseIO(ctx context.Context, r *task.CloseIORequest) (*emptypb.Empty, error) {
	return c.TTRPCTaskService.CloseIO(ctx, as(r, &taskv2.CloseIORequest{}))
}

func (c *oldClient) Update(ctx context.Context, r *task.UpdateTaskRequest) (*emptypb.Empty, error) {
	return c.TTRPCTaskService.Update(ctx, as(r, &taskv2.UpdateTaskRequest{}))
}

func (c *oldClient) Shutdown(ctx context.Context, r *task.ShutdownRequest) (*emptypb.Empty, error) {
	return c.TTRPCTaskService.Shutdown(ctx, as(r, &taskv2.ShutdownRequest{}))
}
