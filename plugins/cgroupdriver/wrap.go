// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"errors"
	"fmt"
	"slices"

	shimv2 "github.com/containerd/containerd/v2/core/runtime/v2"
	"github.com/containerd/log"
	"github.com/containerd/plugin"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/cgroup"
)

// WrapCRI makes CRI's RuntimeConfig answer the node's decision. r is the
// registration of io.containerd.cri.v1.runtime, before it is registered.
//
// The SystemdCgroup key is taken out of its default configuration, so that one
// that is there after the user's files were merged was written by the user.
// When the plugin starts, the merged configuration is aligned (Align); when the
// user's and the decision contradict each other, the daemon does not start.
func WrapCRI(r *plugin.Registration) {
	forgetDefault(r.Config)
	wrap(r, func(ic *plugin.InitContext, d *Driver) error { return Align(ic.Config, d.decision) })
}

// WrapShims tells every shim the node's decision and the slice for its scope by
// the environment variables cgroup.DriverEnv and cgroup.SliceEnv, unless the
// user's configuration sets them. r is the registration of
// io.containerd.shim.v1.manager, before it is registered.
func WrapShims(r *plugin.Registration) {
	wrap(r, func(ic *plugin.InitContext, d *Driver) error {
		shims, ok := ic.Config.(*shimv2.ShimConfig)
		if !ok {
			return fmt.Errorf("%s: cannot tell the shims the cgroup driver: the configuration is a %T", r.URI(), ic.Config)
		}
		env := config.WithVariable(shims.Env, cgroup.DriverEnv, string(d.decision.Driver))
		shims.Env = config.WithVariable(env, cgroup.SliceEnv, d.shimSlice)
		return nil
	})
}

// find returns the instance of this plugin, nil where the user disabled it.
func find(ic *plugin.InitContext) (*Driver, error) {
	instance, err := ic.GetByID(Type, ID)
	if errors.Is(err, plugin.ErrPluginNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the node's cgroup driver: %w", err)
	}
	driver, ok := instance.(*Driver)
	if !ok {
		return nil, fmt.Errorf("the plugin %s.%s is a %T", Type, ID, instance)
	}
	return driver, nil
}

// wrap has before run ahead of the plugin's own start, with the decision. It
// lets a daemon go on whose user disabled this plugin.
func wrap(r *plugin.Registration, before func(*plugin.InitContext, *Driver) error) {
	r.Requires = append(slices.Clone(r.Requires), Type)
	start := r.InitFn
	r.InitFn = func(ic *plugin.InitContext) (any, error) {
		driver, err := find(ic)
		if err != nil {
			return nil, refuse(ic, err)
		}
		if driver == nil {
			log.G(ic.Context).Warnf("the plugin %s.%s is disabled: the cgroup driver that kubelet is told may differ from the one that is used", Type, ID)
			return start(ic)
		}
		if err := before(ic, driver); err != nil {
			return nil, refuse(ic, err)
		}
		return start(ic)
	}
}
