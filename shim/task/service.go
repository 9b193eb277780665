// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/quoin-io/quoin/shim/container"
)

// Service answers the Task API for the containers of a Set.
type Service struct {
	set      *container.Set
	heard    func(changes bool)
	shutdown func()
}

// NewService returns a Service. heard is called for each request, since one
// proves that the daemon is there, and told whether it may change something;
// shutdown is called, once the set has been
// sealed, when the daemon asks an empty shim to end, and must not wait for that
// request.
func NewService(set *container.Set, heard func(changes bool), shutdown func()) *Service {
	return &Service{set: set, heard: heard, shutdown: shutdown}
}

var empty = &emptypb.Empty{}

// get looks up the container of a request that may change it.
func (s *Service) get(id string) (*container.Container, error) {
	s.heard(true)
	return s.set.Get(id)
}

// look looks up the container of a request that only asks.
func (s *Service) look(id string) (*container.Container, error) {
	s.heard(false)
	return s.set.Get(id)
}

func (s *Service) create(ctx context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	s.heard(true)
	options, err := container.ParseOptions(r.GetOptions().GetTypeUrl(), r.GetOptions().GetValue())
	if err != nil {
		return nil, fmt.Errorf("create container %q: %w", r.ID, err)
	}
	_, pid, err := s.set.Create(ctx, container.CreateConfig{
		ID:               r.ID,
		Bundle:           r.Bundle,
		Rootfs:           r.Rootfs,
		Streams:          container.Streams{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
		Checkpoint:       r.Checkpoint,
		ParentCheckpoint: r.ParentCheckpoint,
		Options:          options,
	})
	if err != nil {
		return nil, err
	}
	return &task.CreateTaskResponse{Pid: uint32(pid)}, nil
}

func (s *Service) start(ctx context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	pid, err := c.Start(ctx, r.ExecID)
	if err != nil {
		return nil, err
	}
	return &task.StartResponse{Pid: uint32(pid)}, nil
}

func (s *Service) exec(ctx context.Context, r *task.ExecProcessRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	return empty, c.Exec(ctx, container.ExecConfig{
		ID:      r.ExecID,
		Spec:    r.GetSpec().GetValue(),
		Streams: container.Streams{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
	})
}

func (s *Service) delete(ctx context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	last, err := c.Delete(ctx, r.ExecID)
	if err != nil {
		return nil, err
	}
	return &task.DeleteResponse{
		Pid:        uint32(last.Pid),
		ExitStatus: uint32(last.Exit.Status),
		ExitedAt:   exitedAt(last.Exit),
	}, nil
}

func (s *Service) state(_ context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	c, err := s.look(r.ID)
	if err != nil {
		return nil, err
	}
	p, err := c.State(r.ExecID)
	if err != nil {
		return nil, err
	}
	id := r.ExecID
	if id == "" {
		id = c.ID()
	}
	return &task.StateResponse{
		ID:         id,
		Bundle:     c.Bundle(),
		Pid:        uint32(p.Pid),
		Status:     status(p.Status),
		Stdin:      p.Streams.Stdin,
		Stdout:     p.Streams.Stdout,
		Stderr:     p.Streams.Stderr,
		Terminal:   p.Streams.Terminal,
		ExitStatus: uint32(p.Exit.Status),
		ExitedAt:   exitedAt(p.Exit),
		ExecID:     r.ExecID,
	}, nil
}

func status(s container.Status) tasktypes.Status {
	switch s {
	case container.Created:
		return tasktypes.Status_CREATED
	case container.Running:
		return tasktypes.Status_RUNNING
	case container.Stopped:
		return tasktypes.Status_STOPPED
	case container.Paused:
		return tasktypes.Status_PAUSED
	case container.Pausing:
		return tasktypes.Status_PAUSING
	}
	return tasktypes.Status_UNKNOWN
}

// exitedAt is never nil: containerd's clients convert it without looking.
func exitedAt(e container.Exit) *timestamppb.Timestamp {
	if e.At.IsZero() {
		return &timestamppb.Timestamp{}
	}
	return timestamppb.New(e.At)
}

func (s *Service) wait(ctx context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	c, err := s.look(r.ID)
	if err != nil {
		return nil, err
	}
	e, err := c.Wait(ctx, r.ExecID)
	if err != nil {
		return nil, err
	}
	return &task.WaitResponse{ExitStatus: uint32(e.Status), ExitedAt: exitedAt(e)}, nil
}

func (s *Service) kill(ctx context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	return empty, c.Kill(ctx, r.ExecID, unix.Signal(r.Signal), r.All)
}

func (s *Service) connect(_ context.Context, r *task.ConnectRequest) (*task.ConnectResponse, error) {
	resp := &task.ConnectResponse{ShimPid: uint32(os.Getpid())}
	if c, err := s.look(r.ID); err == nil {
		if p, err := c.State(""); err == nil {
			resp.TaskPid = uint32(p.Pid)
		}
	}
	return resp, nil
}

// shutdownIfEmpty ends a shim without containers; the daemon asks after each
// delete, also while others of the pod are there.
func (s *Service) shutdownIfEmpty(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	s.heard(true)
	if s.set.Seal() {
		s.shutdown()
	}
	return empty, nil
}

func required(what string, present bool) error {
	if present {
		return nil
	}
	return fmt.Errorf("the request has no %s: %w", what, errdefs.ErrInvalidArgument)
}
