// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
)

// WithVariable returns an environment in which a variable has a value: the one it
// has there already, else this one. An empty one adds nothing. env is not changed.
func WithVariable(env []string, name, value string) []string {
	if value == "" || slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
		return env
	}
	return append(slices.Clone(env), name+"="+value)
}
