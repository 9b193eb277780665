// SPDX-License-Identifier: Apache-2.0

// Package inside holds the tests that need a machine of their own: quoind as a
// unit of a real systemd, all controllers of cgroup v2, criu. They are built
// with the tag "vm", the kubelet's with "kubelet" as well, and run in the
// virtual machine that integration/vm boots, as root and alone: they install the
// product there and clean up nothing but what a test is about. The package has
// no code of its own.
package inside
