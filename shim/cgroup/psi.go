// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"strconv"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
)

// pressure reads pressure stall information:
// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0". It is nil where the kernel
// has none: the file is missing, or reading it says EOPNOTSUPP (psi=0).
func pressure(data []byte) *stats.PSIStats {
	if data == nil {
		return nil
	}
	s := &stats.PSIStats{}
	for line := range bytes.Lines(data) {
		kind, rest, _ := bytes.Cut(line, []byte(" "))
		d := &stats.PSIData{}
		switch string(kind) {
		case "some":
			s.Some = d
		case "full":
			s.Full = d
		default:
			continue
		}
		for field := range bytes.FieldsSeq(rest) {
			key, value, _ := bytes.Cut(field, []byte("="))
			switch string(key) {
			case "avg10":
				d.Avg10, _ = strconv.ParseFloat(string(value), 64)
			case "avg60":
				d.Avg60, _ = strconv.ParseFloat(string(value), 64)
			case "avg300":
				d.Avg300, _ = strconv.ParseFloat(string(value), 64)
			case "total":
				d.Total = parseNumber(string(value))
			}
		}
	}
	return s
}
