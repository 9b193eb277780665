// SPDX-License-Identifier: Apache-2.0

// Package kubelet runs a pod through a real kubelet, standalone: no API server,
// the pod comes from a file. It owns the kubelet's settings, the pod, and what
// both have to look like from outside. Its own test does it natively, with the
// tag "kubelet"; the virtual machine's tests use the package to do it under
// systemd. Neither is part of `make test`: the kubelet takes ten minutes to
// build. It does not start quoind.
package kubelet
