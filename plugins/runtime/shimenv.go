// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	shimv2 "github.com/containerd/containerd/v2/core/runtime/v2"
	"github.com/containerd/plugin"

	"github.com/quoin-io/quoin/config"
)

// shimEnvironment is what the settings mean to a shim, as variables. What the
// daemon's own environment says is checked here too: every shim would refuse it.
func shimEnvironment(cfg *Config) ([]string, error) {
	if _, err := config.ParseDeadlines(os.Getenv(config.DeadlinesEnv)); err != nil {
		return nil, fmt.Errorf("the environment's %s: %w", config.DeadlinesEnv, err)
	}
	if _, err := config.ParseLoggerDirs(os.Getenv(config.LoggerDirsEnv)); err != nil {
		return nil, fmt.Errorf("the environment's %s: %w", config.LoggerDirsEnv, err)
	}
	var env []string
	if len(cfg.Deadlines) > 0 {
		d, err := config.DeadlinesOf(cfg.Deadlines)
		if err != nil {
			return nil, err
		}
		env = append(env, config.DeadlinesEnv+"="+d.String())
	}
	if len(cfg.LoggerDirs) > 0 {
		dirs, err := config.CheckLoggerDirs(cfg.LoggerDirs)
		if err != nil {
			return nil, err
		}
		env = append(env, config.LoggerDirsEnv+"="+strings.Join(dirs, string(filepath.ListSeparator)))
	}
	return env, nil
}

// WrapShims gives every shim the variables that the settings of this plugin mean,
// unless the user's configuration of the shim manager sets them. r is the
// registration of io.containerd.shim.v1.manager, before it is registered.
func WrapShims(r *plugin.Registration) {
	inner := r.InitFn
	r.Requires = append(slices.Clone(r.Requires), Type)
	r.InitFn = func(ic *plugin.InitContext) (any, error) {
		o, err := ownerOf(ic)
		if err != nil {
			return nil, fmt.Errorf("the settings of shims: %w", err)
		}
		if o == nil {
			return inner(ic)
		}
		shims, ok := ic.Config.(*shimv2.ShimConfig)
		if !ok {
			return nil, fmt.Errorf("%s: cannot tell the shims their settings: the configuration is a %T", r.URI(), ic.Config)
		}
		for _, kv := range o.shimEnv {
			name, value, _ := strings.Cut(kv, "=")
			shims.Env = config.WithVariable(shims.Env, name, value)
		}
		return inner(ic)
	}
}

// valueOf finds a variable in env, else in the daemon's environment, which shims
// inherit.
func valueOf(env []string, name string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return os.Getenv(name)
}
