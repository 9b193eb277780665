// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/cgroup"
)

// optionKey is the option by which a handler of runc's type tells its driver.
const optionKey = "SystemdCgroup"

// Align changes the merged configuration of CRI's runtime plugin so that its
// RuntimeConfig answers the decision. CRI asks the default handler first and
// the others by name; the first of runc's type that has options answers with
// its SystemdCgroup, and if there is none, /run/systemd/system does.
//
// SystemdCgroup is set where the user did not set it. Where it is set and
// contradicts the decision, Align fails with ErrFailedPrecondition, naming the
// handler and what to write; unless it contradicts only because running pods keep
// the driver: then it is what comes after them, and is overruled until then. If no
// handler would answer, and the directory would answer wrongly, a handler is added
// for no other purpose.
func Align(criConfig any, d Decision) error {
	v, err := viewOf(criConfig)
	if err != nil {
		return err
	}
	handlers := v.handlers()
	if err := checkUser(handlers, d); err != nil {
		return err
	}
	want := d.Driver == cgroup.Systemd
	for _, h := range handlers {
		if h.typ == plugins.RuntimeRuncV2 {
			h.options = setOption(h.options, want)
			v.set(h)
		}
	}
	if answerOf(v.handlers(), v.defaultName(), d.SystemdDir) != d.Driver {
		v.add(unusedName(handlers), plugins.RuntimeRuncV2, setOption(nil, want))
	}
	if got := answerOf(v.handlers(), v.defaultName(), d.SystemdDir); got != d.Driver {
		return fmt.Errorf("CRI's RuntimeConfig would answer %s although the node's cgroup driver is %s: %w", got, d.Driver, errdefs.ErrInternal)
	}
	return nil
}

// checkUser looks at what the user wrote, for our own runtime type too: its
// options mean the same there.
func checkUser(handlers []handler, d Decision) error {
	driver := d.Driver
	if d.Wanted != cgroup.Unset {
		driver = d.Wanted
	}
	want := driver == cgroup.Systemd
	for _, h := range handlers {
		if h.typ != plugins.RuntimeRuncV2 && h.typ != config.RuntimeType {
			continue
		}
		value, ok := h.options[optionKey]
		if !ok {
			continue
		}
		set, isBool := value.(bool)
		where := fmt.Sprintf("[plugins.%q.containerd.runtimes.%s.options]", string(plugins.CRIServicePlugin)+".runtime", h.name)
		if !isBool {
			return fmt.Errorf("%s: %s is %v: write true or false, or leave it out: %w", where, optionKey, value, errdefs.ErrInvalidArgument)
		}
		if set != want {
			return fmt.Errorf("%s says %s = %t, but the node's cgroup driver is %s (%s): leave %s out there, or write driver = %q in [plugins.%q] and the same in all runtimes: %w",
				where, optionKey, set, driver, strings.Join(d.Reasons, "; "), optionKey, driverOf(set), string(Type)+"."+ID, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

func driverOf(systemdCgroup bool) cgroup.Driver {
	if systemdCgroup {
		return cgroup.Systemd
	}
	return cgroup.Cgroupfs
}

// setOption copies: the defaults of several handlers may share one map.
func setOption(options map[string]any, value bool) map[string]any {
	out := make(map[string]any, len(options)+1)
	for k, v := range options {
		out[k] = v
	}
	out[optionKey] = value
	return out
}

// answerOf is CRI's way to its answer.
func answerOf(handlers []handler, defaultName string, systemdDir bool) cgroup.Driver {
	handlers = slices.Clone(handlers)
	slices.SortFunc(handlers, func(a, b handler) int {
		switch {
		case a.name == b.name:
			return 0
		case a.name == defaultName:
			return -1
		case b.name == defaultName:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	for _, h := range handlers {
		if h.typ == plugins.RuntimeRuncV2 && h.options != nil {
			set, _ := h.options[optionKey].(bool)
			return driverOf(set)
		}
	}
	return driverOf(systemdDir)
}

func unusedName(handlers []handler) string {
	name := "runc"
	for slices.ContainsFunc(handlers, func(h handler) bool { return h.name == name }) {
		name += "-cgroup-driver"
	}
	return name
}
