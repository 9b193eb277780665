// SPDX-License-Identifier: Apache-2.0

// Package task serves containerd's ttrpc Task API, versions 3 and 2: it
// translates messages, looks the container up and answers. It decides nothing
// and keeps no state.
package task
