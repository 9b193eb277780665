// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
)

// An option knows how to take a TOML value.
type option struct {
	key string // as in CRI's TOML
	set func(o *Options, value any) bool
}

// tomlOptions are the valid keys. They match without regard to case and
// underscores, so SystemdCgroup and systemd_cgroup are the same.
var tomlOptions = []option{
	{"BinaryName", func(o *Options, v any) bool { return take(&o.BinaryName, v) }},
	{"CriuImagePath", func(o *Options, v any) bool { return take(&o.CriuImagePath, v) }},
	{"CriuWorkPath", func(o *Options, v any) bool { return take(&o.CriuWorkPath, v) }},
	{"IoGid", func(o *Options, v any) bool { return takeInt(&o.IoGID, v) }},
	{"IoUid", func(o *Options, v any) bool { return takeInt(&o.IoUID, v) }},
	{"NoNewKeyring", func(o *Options, v any) bool { return take(&o.NoNewKeyring, v) }},
	{"NoPivotRoot", func(o *Options, v any) bool { return take(&o.NoPivotRoot, v) }},
	{"Root", func(o *Options, v any) bool { return take(&o.Root, v) }},
	{"ShimCgroup", func(o *Options, v any) bool { return take(&o.ShimCgroup, v) }},
	{"SystemdCgroup", func(o *Options, v any) bool { return take(&o.SystemdCgroup, v) }},
}

// ignoredKeys are accepted without effect. The first three are for containerd,
// which passes its whole table on; CriuPath ended with containerd 2.0 (runc
// looks criu up in PATH); the last two are obsolete names in runc's options.
var ignoredKeys = []string{"typeurl", "configpath", "configbody", "criupath", "taskapiaddress", "taskapiversion"}

// parseTOML reads a table of options. An empty body has the zero Options.
func parseTOML(body []byte) (Options, error) {
	if len(body) > maxOptions {
		return Options{}, fmt.Errorf("TOML is larger than %d bytes: %w", maxOptions, errdefs.ErrInvalidArgument)
	}
	table := map[string]any{}
	if err := toml.Unmarshal(body, &table); err != nil {
		return Options{}, fmt.Errorf("malformed TOML: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	var o Options
	given := map[string]string{}
	for _, key := range sortedKeys(table) {
		norm := normalKey(key)
		if first, twice := given[norm]; twice {
			return Options{}, fmt.Errorf("keys %q and %q are the same option: %w", first, key, errdefs.ErrInvalidArgument)
		}
		given[norm] = key
		if err := o.setTOML(key, norm, table[key]); err != nil {
			return Options{}, err
		}
	}
	return o, o.check()
}

func (o *Options) setTOML(key, norm string, value any) error {
	if slices.Contains(ignoredKeys, norm) {
		return nil
	}
	i := slices.IndexFunc(tomlOptions, func(t option) bool { return normalKey(t.key) == norm })
	if i < 0 {
		return fmt.Errorf("unknown key %q, valid are %s: %w", key, validKeys(), errdefs.ErrInvalidArgument)
	}
	if !tomlOptions[i].set(o, value) {
		return fmt.Errorf("key %q has a value of the wrong type (%T): %w", key, value, errdefs.ErrInvalidArgument)
	}
	return nil
}

func normalKey(key string) string {
	return strings.ToLower(strings.ReplaceAll(key, "_", ""))
}

func validKeys() string {
	keys := make([]string, len(tomlOptions))
	for i, t := range tomlOptions {
		keys[i] = t.key
	}
	return strings.Join(keys, ", ")
}

func sortedKeys(table map[string]any) []string {
	keys := make([]string, 0, len(table))
	for k := range table {
		keys = append(keys, k)
	}
	slices.Sort(keys) // the same error each time
	return keys
}

func take[T any](dst *T, value any) bool {
	v, ok := value.(T)
	if ok {
		*dst = v
	}
	return ok
}

// takeInt leaves the range to check, which names the option.
func takeInt(dst *int, value any) bool {
	v, ok := value.(int64)
	if ok {
		*dst = int(v)
	}
	return ok
}
