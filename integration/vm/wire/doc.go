// SPDX-License-Identifier: Apache-2.0

// Package wire owns what the machine that tests run on and the virtual machine
// that they run in tell each other: the plan, a file that the guest finds, and
// frames, one JSON object a line, by which the guest reports. It does no I/O of
// its own choosing.
package wire
