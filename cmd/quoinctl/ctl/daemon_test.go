// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// fakeDaemon serves what creating and running a container needs, and keeps
// what it was asked to create.
type fakeDaemon struct {
	containersapi.UnimplementedContainersServer

	mu         sync.Mutex
	containers map[string]*containersapi.Container
	namespaces []string
	deleted    []string
	task       *tasksapi.CreateTaskRequest // nil without one
}

// runtimeOf returns the runtime of a container's record.
func (d *fakeDaemon) runtimeOf(id string) *containersapi.Container_Runtime {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.containers[id].GetRuntime()
}

// seen returns the namespaces of the calls, and the deleted containers.
func (d *fakeDaemon) seen() (namespaces, deleted []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.namespaces), slices.Clone(d.deleted)
}

// serveFake returns a daemon and its socket.
func serveFake(t *testing.T) (*fakeDaemon, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "quoind.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	d := &fakeDaemon{containers: map[string]*containersapi.Container{}}
	server := grpc.NewServer()
	containersapi.RegisterContainersServer(server, d)
	leasesapi.RegisterLeasesServer(server, fakeLeases{})
	tasksapi.RegisterTasksServer(server, fakeTasks{fake: d})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return d, socket
}

func (d *fakeDaemon) Create(ctx context.Context, req *containersapi.CreateContainerRequest) (*containersapi.CreateContainerResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.containers[req.Container.ID] = req.Container
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		d.namespaces = append(d.namespaces, md.Get("containerd-namespace")...)
	}
	return &containersapi.CreateContainerResponse{Container: req.Container}, nil
}

func (d *fakeDaemon) Get(_ context.Context, req *containersapi.GetContainerRequest) (*containersapi.GetContainerResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.containers[req.ID]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "container %q: not found", req.ID)
	}
	return &containersapi.GetContainerResponse{Container: c}, nil
}

func (d *fakeDaemon) Delete(_ context.Context, req *containersapi.DeleteContainerRequest) (*emptypb.Empty, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deleted = append(d.deleted, req.ID)
	return &emptypb.Empty{}, nil
}

type fakeLeases struct {
	leasesapi.UnimplementedLeasesServer
}

func (fakeLeases) Create(context.Context, *leasesapi.CreateRequest) (*leasesapi.CreateResponse, error) {
	return &leasesapi.CreateResponse{Lease: &leasesapi.Lease{ID: "lease"}}, nil
}

func (fakeLeases) Delete(context.Context, *leasesapi.DeleteRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// fakeTasks has one task, which exits with 9 as soon as it is started.
type fakeTasks struct {
	tasksapi.UnimplementedTasksServer
	fake *fakeDaemon
}

func (s fakeTasks) Create(_ context.Context, req *tasksapi.CreateTaskRequest) (*tasksapi.CreateTaskResponse, error) {
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	s.fake.task = req
	return &tasksapi.CreateTaskResponse{ContainerID: req.ContainerID, Pid: 4242}, nil
}

func (s fakeTasks) Start(context.Context, *tasksapi.StartRequest) (*tasksapi.StartResponse, error) {
	return &tasksapi.StartResponse{Pid: 4242}, nil
}

func (s fakeTasks) Wait(context.Context, *tasksapi.WaitRequest) (*tasksapi.WaitResponse, error) {
	return &tasksapi.WaitResponse{ExitStatus: 9}, nil
}

func (s fakeTasks) Delete(context.Context, *tasksapi.DeleteTaskRequest) (*tasksapi.DeleteResponse, error) {
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	s.fake.task = nil
	return &tasksapi.DeleteResponse{ExitStatus: 9}, nil
}

func (s fakeTasks) Kill(context.Context, *tasksapi.KillRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (s fakeTasks) Get(context.Context, *tasksapi.GetRequest) (*tasksapi.GetResponse, error) {
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	if s.fake.task == nil {
		return nil, status.Error(codes.NotFound, "task: not found")
	}
	return &tasksapi.GetResponse{Process: &tasktypes.Process{Pid: 4242, Status: tasktypes.Status_STOPPED, ExitStatus: 9}}, nil
}
