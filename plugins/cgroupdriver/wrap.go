// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	shimv2 "github.com/containerd/containerd/v2/core/runtime/v2"
	"github.com/containerd/log"
	"github.com/containerd/plugin"

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
	wrap(r, func(ic *plugin.InitContext, d Decision) error { return Align(ic.Config, d) })
}

// WrapShims tells every shim the node's decision by the environment variable
// cgroup.DriverEnv, unless the user's configuration sets it. r is the
// registration of io.containerd.shim.v1.manager, before it is registered.
func WrapShims(r *plugin.Registration) {
	wrap(r, func(ic *plugin.InitContext, d Decision) error {
		config, ok := ic.Config.(*shimv2.ShimConfig)
		if !ok {
			return fmt.Errorf("%s: cannot tell the shims the cgroup driver: the configuration is a %T", r.URI(), ic.Config)
		}
		prefix := cgroup.DriverEnv + "="
		if !slices.ContainsFunc(config.Env, func(e string) bool { return strings.HasPrefix(e, prefix) }) {
			config.Env = append(slices.Clone(config.Env), prefix+string(d.Driver))
		}
		return nil
	})
}

// wrap has before run ahead of the plugin's own start, with the decision. It
// lets a daemon go on whose user disabled this plugin.
func wrap(r *plugin.Registration, before func(*plugin.InitContext, Decision) error) {
	r.Requires = append(slices.Clone(r.Requires), Type)
	start := r.InitFn
	r.InitFn = func(ic *plugin.InitContext) (any, error) {
		instance, err := ic.GetByID(Type, ID)
		if errors.Is(err, plugin.ErrPluginNotFound) {
			log.G(ic.Context).Warnf("the plugin %s.%s is disabled: the cgroup driver that kubelet is told may differ from the one that is used", Type, ID)
			return start(ic)
		}
		if err != nil {
			return nil, refuse(ic, fmt.Errorf("the node's cgroup driver: %w", err))
		}
		driver, ok := instance.(*Driver)
		if !ok {
			return nil, refuse(ic, fmt.Errorf("the plugin %s.%s is a %T", Type, ID, instance))
		}
		if err := before(ic, driver.Decision()); err != nil {
			return nil, refuse(ic, err)
		}
		return start(ic)
	}
}
