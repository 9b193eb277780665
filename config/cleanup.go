// SPDX-License-Identifier: Apache-2.0

package config

import "time"

const (
	// CleanupEnv is the environment variable by which quoind tells a shim's "delete"
	// how long it waits for it, as time.ParseDuration reads it: it is the daemon's
	// timeout "io.containerd.timeout.shim.cleanup".
	CleanupEnv = "QUOIN_CLEANUP_TIMEOUT"
	// cleanupTimeout is containerd's default of it.
	cleanupTimeout = 5 * time.Second
)

// CleanupLimit is how long a delete may take whose daemon waits for as long as value
// says, the content of CleanupEnv: a tenth less, so that its answer arrives. What is
// no positive duration stands for containerd's default.
func CleanupLimit(value string) time.Duration {
	timeout, err := time.ParseDuration(value)
	if err != nil || timeout <= 0 {
		timeout = cleanupTimeout
	}
	return timeout - timeout/10
}
