// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"
)

// CRI is what a CRI daemon is configured with beside the product's defaults.
type CRI struct {
	// SandboxImage is the pod's own image; it must have been imported.
	SandboxImage string
	// NetworkConfigDir holds the CNI configuration.
	NetworkConfigDir string
	// RegistryConfigDir holds hosts.toml files by registry.
	RegistryConfigDir string
}

type table map[string]any

// criPlugins are left out of daemons that need no CRI: they are most of a
// daemon's start.
var criPlugins = []string{
	"io.containerd.grpc.v1.cri",
	"io.containerd.cri.v1.images",
	"io.containerd.cri.v1.runtime",
	"io.containerd.podsandbox.controller.v1.podsandbox",
}

// Names of containerd's limits for a shim's answers: to a question for its state, to
// a daemon that starts, and for the cleanup after one that is gone.
const (
	StateTimeout   = "io.containerd.timeout.task.state"
	LoadTimeout    = "io.containerd.timeout.shim.load"
	CleanupTimeout = "io.containerd.timeout.shim.cleanup"
)

// PatientTimeouts are limits long enough for a machine that stands still for seconds,
// as one does that others share. They are for tests of what is true whatever the
// limits: by its own ones containerd then ends containers, and tells a status that
// nobody knows.
func PatientTimeouts() map[string]string {
	return map[string]string{
		StateTimeout:   Patience.String(),
		LoadTimeout:    Patience.String(),
		CleanupTimeout: Patience.String(),
	}
}

// configTOML is the daemon's configuration file.
func (d *Daemon) configTOML() []byte {
	plugins := table{
		"io.containerd.server.v1.grpc":  table{"address": d.Address},
		"io.containerd.server.v1.ttrpc": table{"address": d.Address + ".ttrpc"},
		"io.containerd.internal.v1.opt": table{"path": filepath.Join(Base(), d.Name, "opt")},
		"io.containerd.nri.v1.nri":      table{"disable": true},
	}
	file := table{
		"version": 4,
		"root":    d.Root,
		"state":   d.State,
		"debug":   table{"level": "debug"},
		"plugins": plugins,
	}
	if len(d.Timeouts) > 0 {
		file["timeouts"] = d.Timeouts
	}
	if d.CRI == nil {
		file["disabled_plugins"] = criPlugins
	} else {
		d.addCRI(plugins)
	}
	for uri, section := range d.Plugins {
		plugins[uri] = section
	}
	var out bytes.Buffer
	encoder := toml.NewEncoder(&out)
	if err := encoder.Encode(file); err != nil {
		panic(err) // the tables above hold nothing that TOML cannot say
	}
	return out.Bytes()
}

func (d *Daemon) addCRI(plugins table) {
	plugins["io.containerd.cri.v1.images"] = table{
		"pinned_images": table{"sandbox": d.CRI.SandboxImage},
		"registry":      table{"config_path": d.CRI.RegistryConfigDir},
	}
	runtime := table{
		// Without CAP_SYS_RESOURCE no score can be lowered.
		"restrict_oom_score_adj": true,
		"cni": table{
			"bin_dirs": []string{filepath.Dir(CNI.Path())},
			"conf_dir": d.CRI.NetworkConfigDir,
		},
	}
	if d.Kind == KindStock && !Reference() {
		runtime["containerd"] = table{
			"default_runtime_name": "quoin",
			"runtimes":             table{"quoin": table{"runtime_type": d.Runtime}},
		}
	}
	plugins["io.containerd.cri.v1.runtime"] = runtime
}
