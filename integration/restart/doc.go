// SPDX-License-Identifier: Apache-2.0

// Package restart kills the daemon with SIGKILL while containers run, finish
// and write, starts it again, and asks for all of them.
package restart
