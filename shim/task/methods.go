// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"

	"github.com/containerd/ttrpc"
)

// serviceNames are the versions of the API. Their messages are the same on the
// wire, so that the handlers of version 3 serve version 2 as well.
var serviceNames = [...]string{"containerd.task.v3.Task", "containerd.task.v2.Task"}

// Register adds the service to a server.
func (s *Service) Register(server *ttrpc.Server) {
	desc := &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"State":      method(s.state),
		"Create":     method(s.create),
		"Start":      method(s.start),
		"Delete":     method(s.delete),
		"Pids":       method(s.pids),
		"Pause":      method(s.pause),
		"Resume":     method(s.resume),
		"Checkpoint": method(s.checkpoint),
		"Kill":       method(s.kill),
		"Exec":       method(s.exec),
		"ResizePty":  method(s.resizePty),
		"CloseIO":    method(s.closeIO),
		"Update":     method(s.update),
		"Wait":       method(s.wait),
		"Stats":      method(s.stats),
		"Connect":    method(s.connect),
		"Shutdown":   method(s.shutdownIfEmpty),
	}}
	for _, name := range serviceNames {
		server.RegisterService(name, desc)
	}
}

// method adapts a typed handler.
func method[Request, Response any](handle func(context.Context, *Request) (*Response, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		var r Request
		if err := unmarshal(&r); err != nil {
			return nil, err
		}
		return handle(ctx, &r)
	}
}
