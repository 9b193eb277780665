// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	api "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/core/events/exchange"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/timeout"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/plugin"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/plugins/runtime/deaths"
	"github.com/quoin-io/quoin/shim/ledger"
)

// cleanupTimeout is containerd's name for how long it waits for a shim's delete.
const cleanupTimeout = "io.containerd.timeout.shim.cleanup"

// obituary is what the daemon knows of deaths, beside its shims.
type obituary struct {
	*deaths.Witnesses
	told  *deaths.Told
	tasks string // the directory of bundles
}

func newObituary(ctx context.Context, state string) (*obituary, error) {
	w, err := deaths.NewWitnesses()
	if err != nil {
		return nil, err
	}
	go w.Run(ctx)
	// containerd runs the shims' deletes in its own environment.
	if err := os.Setenv(config.CleanupEnv, timeout.Get(cleanupTimeout).String()); err != nil {
		return nil, fmt.Errorf("tell the shims how long their end may take: %w", err)
	}
	return &obituary{Witnesses: w, told: deaths.NewTold(), tasks: filepath.Join(state, config.BundlesDir)}, nil
}

// loaded takes over the tasks that an earlier daemon has left.
func (o *obituary) loaded(ctx context.Context, tasks runtime.PlatformRuntime) error {
	all, err := tasks.Tasks(ctx, true)
	if err != nil {
		return fmt.Errorf("list the tasks of the daemon before: %w", err)
	}
	for _, t := range all {
		o.told.Live(t.Namespace(), t.ID())
	}
	return nil
}

// made takes over a new task.
func (o *obituary) made(ctx context.Context, k taskKey) {
	o.told.Live(k.namespace, k.id)
	o.Hold(ctx, o.bundle(k))
}

func (o *obituary) bundle(k taskKey) string { return filepath.Join(o.tasks, k.namespace, k.id) }

// gone says that a task was deleted, or that its shim has died and all was told.
func (o *obituary) gone(k taskKey) {
	o.Forget(o.bundle(k))
	o.told.Forget(k.namespace, k.id)
}

// TellOnce makes the registration of containerd's shim manager
// ("io.containerd.shim.v1.manager") tell the ends of containers whose shims die
// through an exchange of its own, from which what was not told yet is passed on to
// everybody's: containerd would tell an exit again that a shim told before it died.
func TellOnce(r *plugin.Registration) {
	inner := r.InitFn
	r.Requires = append(slices.Clone(r.Requires), Type)
	r.InitFn = func(ic *plugin.InitContext) (any, error) {
		o, err := ownerOf(ic)
		if err == nil && o != nil {
			ic, err = o.obituary.tellOnce(ic)
		}
		if err != nil {
			return nil, fmt.Errorf("tell the ends of containers whose shims die: %w", err)
		}
		return inner(ic)
	}
}

// tellOnce returns the context to start the shim manager with.
func (o *obituary) tellOnce(ic *plugin.InitContext) (*plugin.InitContext, error) {
	instance, err := ic.GetByID(plugins.EventPlugin, "exchange")
	if err != nil {
		return nil, err
	}
	everybodys, ok := instance.(*exchange.Exchange)
	if !ok {
		return nil, fmt.Errorf("the exchange of events is a %T", instance)
	}
	own := exchange.NewExchange()
	o.told.Pass(ic.Context, own, everybodys, func(namespace, id string) { o.gone(taskKey{namespace, id}) })
	set := plugin.NewPluginSet()
	for _, p := range ic.GetAll() {
		if p.Registration.Type == plugins.EventPlugin && p.Registration.ID == "exchange" {
			p = plugin.Registration{
				Type: p.Registration.Type, ID: p.Registration.ID,
				InitFn: func(*plugin.InitContext) (any, error) { return own, nil },
			}.Init(plugin.NewContext(ic.Context, plugin.NewPluginSet(), nil))
		}
		if err := set.Add(p); err != nil {
			return nil, err
		}
	}
	other := plugin.NewContext(ic.Context, set, ic.Properties)
	other.Config, other.Meta, other.RegisterReadiness = ic.Config, ic.Meta, ic.RegisterReadiness
	return other, nil
}

// WrapEvents makes the registration of containerd's events service
// ("io.containerd.grpc.v1.events") note what shims tell, and answer the shims'
// deletes that ask how a container ended.
func WrapEvents(r *plugin.Registration) {
	inner := r.InitFn
	r.Requires = append(slices.Clone(r.Requires), Type)
	r.InitFn = func(ic *plugin.InitContext) (any, error) {
		instance, err := inner(ic)
		if err != nil {
			return nil, err
		}
		o, err := ownerOf(ic)
		if err != nil {
			return nil, fmt.Errorf("note the events of shims: %w", err)
		}
		if o == nil {
			return instance, nil
		}
		exchange, err := ic.GetByID(plugins.EventPlugin, "exchange")
		if err != nil {
			return nil, err
		}
		service, ok := instance.(grpcService)
		to, forwards := exchange.(events.Forwarder)
		if !ok || !forwards {
			return nil, fmt.Errorf("note the events of shims: %T is no service, or %T no exchange", instance, exchange)
		}
		return &notingEvents{grpcService: service, to: to, obituary: o.obituary}, nil
	}
}

type grpcService interface {
	Register(*grpc.Server) error
}

// notingEvents is containerd's events service: unchanged by gRPC, to clients, and by
// ttrpc, to shims, with notes.
type notingEvents struct {
	grpcService
	to       events.Forwarder
	obituary *obituary
}

// RegisterTTRPC registers what shims call.
func (n *notingEvents) RegisterTTRPC(server *ttrpc.Server) error {
	api.RegisterTTRPCEventsService(server, n)
	ledger.RegisterSettler(server, n.obituary.Settle)
	return nil
}

// Forward takes an event of a shim, or of a delete in place of a shim that died. An
// exit that was told is acknowledged and not told again.
func (n *notingEvents) Forward(ctx context.Context, r *api.ForwardRequest) (*emptypb.Empty, error) {
	e := r.GetEnvelope()
	envelope := &events.Envelope{Timestamp: e.GetTimestamp().AsTime(), Namespace: e.GetNamespace(), Topic: e.GetTopic(), Event: e.GetEvent()}
	if n.obituary.told.Note(envelope) {
		return &emptypb.Empty{}, nil
	}
	if err := n.to.Forward(ctx, envelope); err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	return &emptypb.Empty{}, nil
}
