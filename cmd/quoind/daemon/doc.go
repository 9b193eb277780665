// SPDX-License-Identifier: Apache-2.0

// Package daemon owns how quoind is put together: it takes containerd's
// command line and registry of plugins, adds and decorates plugins, and gives
// both quoind's defaults. It does not implement any plugin, and it changes
// nothing of what a user's configuration says.
package daemon
