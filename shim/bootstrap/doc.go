// SPDX-License-Identifier: Apache-2.0

// Package bootstrap owns the protocol by which containerd starts a shim, in all
// its ages, and the socket at which the shim is then found.
//
// containerd 2.3 and newer write a BootstrapParams message to the standard
// input of "start" and read a BootstrapResult from its output. containerd 1.6 to
// 2.2, and with them dockerd, write the runtime options alone, or nothing, and
// read a plain address. ParseParams and Reply speak both.
//
// The package starts no process, reads no config.json and serves nothing: it
// turns bytes into Params, names into addresses, and paths into listeners.
package bootstrap
