// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/cgroup"
)

// Type is a plugin type of our own, so that others can require the plugin
// without requiring all of containerd's internal ones.
const Type plugin.Type = config.CgroupDriverPluginType

// ID is the plugin's name within its type.
const ID = config.CgroupDriverPluginID

// Config is the table [plugins."io.quoin.node.v1.cgroupdriver"].
type Config struct {
	// Driver is "auto", "systemd" or "cgroupfs".
	Driver Setting `toml:"driver"`
	// ShimSlice is the slice in which systemd makes the shims' scopes: the name of
	// a slice, "pod" for the slice of the pod that a shim serves, or empty for
	// system.slice. It has no meaning to the cgroupfs driver.
	ShimSlice string `toml:"shim_slice"`
}

// check refuses what is no name of a slice (systemd.slice(5)).
func (c *Config) check() error {
	s := c.ShimSlice
	if s == "" || s == cgroup.PodSlice || strings.HasSuffix(s, ".slice") && s != ".slice" && !strings.ContainsAny(s, "/: ") {
		return nil
	}
	return fmt.Errorf("shim_slice = %q is neither the name of a slice, such as \"shims.slice\", nor %q, nor empty: %w", s, cgroup.PodSlice, errdefs.ErrInvalidArgument)
}

// Driver is the instance of the plugin.
type Driver struct {
	decision  Decision
	node      cgroup.Node
	shimSlice string
	keeper    *keeper // nil where there is nothing to keep
	stop      func()  // the keeper, which runs beside the daemon
}

// Close ends what runs beside the daemon. It waits for nothing.
func (d *Driver) Close() error {
	if d.stop != nil {
		d.stop()
	}
	return nil
}

// Decision returns the node's decision, which stands until the daemon ends.
func (d *Driver) Decision() Decision { return d.decision }

// Node is what placing a container goes by on this node.
func (d *Driver) Node() cgroup.Node { return d.node }

// Register puts the plugin into containerd's registry. It is called once, by
// the main program.
func Register() { registry.Register(registration(prober{askUnit: askManager})) }

func registration(p prober) *plugin.Registration {
	return &plugin.Registration{
		Type:   Type,
		ID:     ID,
		Config: &Config{Driver: Auto},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			d, err := initialize(ic, p)
			if err != nil {
				return nil, refuse(ic, err)
			}
			return d, nil
		},
	}
}

// refuse makes the daemon stop instead of going on without the plugin: one
// that registered its readiness must not fail.
func refuse(ic *plugin.InitContext, err error) error {
	if ic.RegisterReadiness != nil {
		ic.RegisterReadiness()
	}
	return err
}

func initialize(ic *plugin.InitContext, p prober) (*Driver, error) {
	settings := ic.Config.(*Config)
	if err := settings.check(); err != nil {
		return nil, fmt.Errorf("[plugins.%q]: %w", string(Type)+"."+ID, err)
	}
	facts, err := p.probe(ic.Context)
	if err != nil {
		return nil, err
	}
	stateDir := ic.Properties[plugins.PropertyStateDir]
	earlier, err := loadRecord(stateDir, facts.BootID)
	if err != nil {
		log.G(ic.Context).WithError(err).Warn("the cgroup driver is decided anew")
	}
	d, err := decide(settings.Driver, facts, earlier)
	if err != nil {
		return nil, fmt.Errorf("[plugins.%q]: %w", string(Type)+"."+ID, err)
	}
	makeRoom(ic.Context, p.root, &facts, &d)
	if err := saveRecord(stateDir, facts.BootID, d); err != nil {
		return nil, err
	}
	export(ic, facts, d)
	ic.Meta.Exports["state"] = filepath.Dir(stateDir)
	announce(ic.Context, d, earlier)
	driver := &Driver{decision: d, node: facts.Node(d.Driver), shimSlice: settings.ShimSlice}
	if facts.Mode == cgroup.Unified && facts.SystemdRuns() && facts.Answered {
		var ctx context.Context
		ctx, driver.stop = context.WithCancel(ic.Context)
		driver.keeper = newKeeper(p.root, filepath.Join(filepath.Dir(stateDir), config.BundlesDir))
		go driver.keeper.keep(ctx)
	}
	return driver, nil
}

// export shows the decision and its grounds in `ctr plugins ls -d`.
func export(ic *plugin.InitContext, f Facts, d Decision) {
	e := ic.Meta.Exports
	e["driver"] = string(d.Driver)
	e["setting"] = string(d.Setting)
	if d.Wanted != cgroup.Unset {
		e["wanted"] = string(d.Wanted)
	}
	e["reasons"] = strings.Join(d.Reasons, "; ")
	if len(d.Warnings) > 0 {
		e["warnings"] = strings.Join(d.Warnings, "; ")
	}
	e["mode"] = f.Mode.String()
	e["controllers"] = strings.Join(f.Controllers, ",")
	e["systemd"] = strconv.FormatBool(f.SystemdRuns() && f.Answered)
	e["unit"] = f.Unit
	e["cgroup"] = f.Path
	e["delegated"] = strconv.FormatBool(f.Delegated)
	e["nested"] = strconv.FormatBool(f.Nested)
	e["user_namespace"] = strconv.FormatBool(f.UserNamespace)
}

// announce tells the decision, and what differs from the earlier one of this boot,
// if there is one.
func announce(ctx context.Context, d Decision, earlier *Decision) {
	l := log.G(ctx)
	l.WithField("driver", d.Driver).WithField("reasons", d.Reasons).Info("decided on the node's cgroup driver")
	if earlier != nil && earlier.Driver != d.Driver {
		l.WithField("driver", d.Driver).Warnf("the node's cgroup driver was %s until now: restart the kubelet, which asks only when it starts", earlier.Driver)
	}
	for _, w := range d.Warnings {
		l.WithField("driver", d.Driver).Warn(w)
	}
}
