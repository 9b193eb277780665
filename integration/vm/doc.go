// SPDX-License-Identifier: Apache-2.0

// Command vm runs integration tests in a virtual machine: a Debian whose
// process 1 is systemd, on pure cgroup v2 with all controllers (beds "v2" and
// "troubles", of what goes wrong there), with
// the hierarchies of cgroup v1 beside it ("hybrid"), or without systemd
// ("bare"). The processor is emulated, so nothing is asked of the host but
// qemu and mmdebstrap; nothing of it is changed, and the machine has no network.
//
// The root is made once and kept under the checksum of what makes it; each boot
// writes to a scratch copy. Test binaries and the product travel as a second
// disk, results come back as frames (package wire) over a virtio port. Several
// beds run at once, each in a machine of its own. What the command prints on
// standard output is test2json's format, for gotestsum. A bed that does not boot,
// hangs or ends early has failed, and takes no other with it.
//
// It does not know what the tests do: those are in the package inside, and in
// the other integration packages.
package main
