// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	version "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quoin-io/quoin/plugins/cgroupdriver"
	"github.com/quoin-io/quoin/plugins/runtime"
)

// reach says how far one gets with the daemon's socket.
type reach int

const (
	absent  reach = iota // there is no socket
	refused              // nobody listens
	denied               // we may not connect
	silent               // somebody listens and does not answer in time, or wrongly
	answers
)

// daemon is what the daemon behind a socket says of itself.
type daemon struct {
	reach reach
	err   error // unless it answers
	conn  *grpc.ClientConn
	pid   int // 0 when not known, or in another PID namespace
	// containerd is its version of containerd, quoin that of Quoin; the latter
	// is "" for a stock containerd.
	containerd, quoin string
	// runtime are the exports of Quoin's runtime plugin; nil without it.
	runtime map[string]string
	// driver are the exports of the cgroup driver plugin; nil without it.
	driver map[string]string
	// root and state are its directories, "" when it does not say.
	root, state string
	// failed are plugins that could not start, each with its error.
	failed []string
}

// askDaemon connects to a socket and asks who answers.
func askDaemon(ctx context.Context, h *host, address string) *daemon {
	d := &daemon{}
	if _, err := os.Stat(h.at(address)); err != nil {
		d.err = pathless(err)
		if errors.Is(err, fs.ErrPermission) {
			d.reach = denied
		}
		return d
	}
	// gRPC hides why a connection cannot be made, so it is tried without.
	probe, err := (&net.Dialer{}).DialContext(ctx, "unix", h.at(address))
	if err != nil {
		var errno syscall.Errno
		errors.As(err, &errno)
		d.reach, d.err = silent, h.rootless(err)
		switch errno {
		case syscall.ECONNREFUSED, syscall.ENOENT:
			d.reach, d.err = refused, errno
		case syscall.EACCES, syscall.EPERM:
			d.reach, d.err = denied, errno
		}
		return d
	}
	_ = probe.Close() // it has told what it was for
	d.reach = silent
	d.conn, d.err = grpc.NewClient("passthrough:///quoind",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", h.at(address))
		}))
	if d.err == nil {
		d.err = h.rootless(d.introspect(ctx, h))
	}
	if d.err == nil {
		d.reach = answers
	}
	return d
}

func (d *daemon) introspect(ctx context.Context, h *host) error {
	client := introspection.NewIntrospectionClient(d.conn)
	server, err := client.Server(ctx, &emptypb.Empty{})
	if err != nil {
		return rpcError(err)
	}
	if ours, err := os.Readlink(h.at("/proc/self/ns/pid")); err == nil && ours == fmt.Sprintf("pid:[%d]", server.Pidns) {
		d.pid = int(server.Pid)
	}
	if v, err := version.NewVersionClient(d.conn).Version(ctx, &emptypb.Empty{}); err == nil {
		d.containerd = v.Version
	}
	plugins, err := client.Plugins(ctx, &introspection.PluginsRequest{})
	if err != nil {
		return rpcError(err)
	}
	for _, p := range plugins.Plugins {
		d.learn(p)
	}
	return nil
}

func (d *daemon) learn(p *introspection.Plugin) {
	if e := p.InitErr; e != nil {
		// Of what has nothing to do here, the message is all that tells.
		if !strings.Contains(e.Message, plugin.ErrSkipPlugin.Error()) {
			d.failed = append(d.failed, fmt.Sprintf("%s.%s: %s", p.Type, p.ID, e.Message))
		}
		return
	}
	switch {
	case p.Type == string(runtime.Type) && p.ID == runtime.ID:
		d.quoin = p.Exports["version"]
		d.runtime = p.Exports
	case p.Type == string(cgroupdriver.Type) && p.ID == cgroupdriver.ID:
		d.driver = p.Exports
		d.state = p.Exports["state"]
	case p.Type == "io.containerd.content.v1" && p.Exports["root"] != "":
		d.root = filepath.Dir(p.Exports["root"])
	}
}

// rpcError says in plain words what a failed call means.
func rpcError(err error) error {
	if status.Code(err) == codes.DeadlineExceeded {
		return errors.New("no answer in time")
	}
	return errors.New(status.Convert(err).Message())
}

// name is what messages call the daemon.
func (d *daemon) name() string {
	if d.reach == answers && d.quoin == "" {
		return "containerd"
	}
	return "quoind"
}

func (d *daemon) close() {
	if d.conn != nil {
		_ = d.conn.Close()
	}
}
