// SPDX-License-Identifier: Apache-2.0

// Package ocitest owns a fake OCI runtime for tests: it needs no root, no cgroups
// and no namespaces, starts real processes as "containers", and fails on demand.
//
// The fake is the test's own binary, run again under another name. A package that
// uses it gives it the first word in TestMain:
//
//	func TestMain(m *testing.M) { ocitest.Main(m) }
//
// and a test makes one and passes its path as the runtime's binary:
//
//	fake := ocitest.New(t)
//	rt, err := oci.New(oci.Config{Binary: fake.Binary(), Root: fake.Root(), Bundle: ocitest.Bundle(t, "sleep", "100")})
//
// What it does, as an OCI runtime would:
//
//   - create starts a process in a session of its own, which waits; start makes it
//     execute process.args of the bundle's config.json (on the host, with process.env
//     and process.cwd); exec runs another. They are orphaned to the nearest subreaper,
//     have the stdio or terminal they were given, obey signals and can be reaped.
//   - kill, kill --all, pause and resume (SIGSTOP, SIGCONT), ps, state, update,
//     delete, checkpoint and restore (without memory: the program begins anew),
//     features, --version.
//   - errors go to the log and stderr in runc's words.
//
// A process belongs to a container as long as it stays in its session.
//
// Set gives a step a Failpoint; Gate stops a step until the test lets it go, with a
// channel that tells when it has been reached, so that no test needs to sleep.
// Everything that was started is killed when the test ends.
package ocitest
