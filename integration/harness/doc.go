// SPDX-License-Identifier: Apache-2.0

// Package harness gives an integration test a machine of its own and the real
// parts to run in it.
//
// [Main] starts the test binary again inside new PID, mount, network, IPC and
// UTS namespaces, with an empty /run and a loopback device that is up. So a
// bridge, a firewall rule, a fork storm or a kill of every process reaches no
// further than the package under test, "nothing is left behind" can be asked
// of the whole PID namespace, and whatever a crashed test leaves dies with its
// first process.
//
// Inside, the package starts daemons ([Start], [Shared]), builds images
// ([Busybox]), drives them with containerd's client and with the command line,
// and compares the world with what it was ([Leftovers]).
//
// Nothing here skips: a part that is missing fails the package with a message
// that names `make test`, which builds and installs all of them.
package harness
