// SPDX-License-Identifier: Apache-2.0

// Package metrics owns what quoind's Prometheus endpoint says of shims. At each
// scrape it asks all of them at once and, for one that does not answer in time,
// serves what it said last. It does not start, stop or change any.
//
// Sums over all shims (quoin_shims_...) are always served: their number does not
// depend on how many shims there are. Series of each shim (quoin_shim_..., with
// its containerd namespace and id as labels) are served when asked for. A sum never
// goes back while quoind lives: what a shim had counted stays in it when the shim
// ends. Only what a shim that was killed counted since the last scrape is lost.
package metrics
