// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"

	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	"github.com/quoin-io/quoin/plugins/cgroupdriver"
	"github.com/quoin-io/quoin/plugins/runtime"
)

// decorators change a registration of containerd's before it is used. The
// registry refuses a second plugin of the same name, so this is how one is
// replaced or given other defaults.
var decorators = map[string][]func(*plugin.Registration){
	"io.containerd.runtime.v2.task": {cgroupdriver.WrapTasks, runtime.Decorate},
	"io.containerd.cri.v1.runtime":  {cgroupdriver.WrapCRI},
	"io.containerd.shim.v1.manager": {cgroupdriver.WrapShims, runtime.WrapShims, runtime.TellOnce},
	"io.containerd.grpc.v1.events":  {runtime.WrapEvents},
}

// assemble adds quoind's plugins to the registry, decorates containerd's, and
// gives all of them quoind's defaults.
func assemble() error {
	runtime.Register()
	cgroupdriver.Register()

	settings, err := defaults()
	if err != nil {
		return err
	}
	regs := registry.Graph(func(*plugin.Registration) bool { return false })
	if err := adapt(regs, settings); err != nil {
		return err
	}
	registry.Reset()
	for i := range regs {
		registry.Register(&regs[i])
	}
	return nil
}

// adapt applies the plugins' defaults in settings and the decorators. Each of
// them must find its plugin: a name that containerd no longer has is an error,
// not a default silently lost.
func adapt(regs []plugin.Registration, settings *srvconfig.Config) error {
	byURI := make(map[string]*plugin.Registration, len(regs))
	for i := range regs {
		byURI[regs[i].URI()] = &regs[i]
	}
	for uri := range settings.Plugins {
		r, ok := byURI[uri]
		if !ok || r.Config == nil {
			return fmt.Errorf("the compiled-in quoind.toml sets plugin %q, which containerd lacks", uri)
		}
		if _, err := settings.Decode(context.Background(), uri, r.Config); err != nil {
			return fmt.Errorf("default settings of plugin %q: %w", uri, err)
		}
	}
	for uri, changes := range decorators {
		r, ok := byURI[uri]
		if !ok {
			return fmt.Errorf("plugin %q is to be decorated, but containerd lacks it", uri)
		}
		for _, change := range changes {
			change(r)
		}
	}
	return nil
}
