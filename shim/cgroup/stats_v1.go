// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"context"
	"strconv"

	"github.com/containerd/cgroups/v3/cgroup1/stats"
)

// tick is the length of USER_HZ in nanoseconds. The kernel fixes it at 100 per
// second for user space on every architecture that Quoin builds for.
const tick = 1e9 / 100

// legacyNoLimit is what "max" stands for in v1 metrics.
const legacyNoLimit = 0

func (c *Cgroup) legacyStats(ctx context.Context) *stats.Metrics {
	m := &stats.Metrics{CPU: &stats.CPUStat{Throttling: &stats.Throttle{}, Usage: &stats.CPUUsage{}}}
	buf := make([]byte, statsBuffer)
	for _, s := range [...]struct {
		controller string
		read       func(*files, *stats.Metrics)
	}{
		{"cpu", legacyThrottling},
		{"cpuacct", legacyCPU},
		{"memory", legacyMemory},
		{"pids", legacyPids},
		{"blkio", legacyBlkio},
		{"rdma", legacyRdma},
		{"hugetlb", legacyHugetlb},
	} {
		d, ok := c.controller(s.controller)
		if !ok || ctx.Err() != nil {
			continue
		}
		f := openFiles(d.dir, buf)
		if f.fd >= 0 {
			s.read(f, m)
		}
		buf = f.buf
		f.close()
	}
	return m
}

func legacyThrottling(f *files, m *stats.Metrics) {
	f.pairs("cpu.stat", func(key []byte, v uint64) {
		switch string(key) {
		case "nr_periods":
			m.CPU.Throttling.Periods = v
		case "nr_throttled":
			m.CPU.Throttling.ThrottledPeriods = v
		case "throttled_time":
			m.CPU.Throttling.ThrottledTime = v
		}
	})
}

func legacyCPU(f *files, m *stats.Metrics) {
	u := m.CPU.Usage
	f.pairs("cpuacct.stat", func(key []byte, v uint64) {
		switch string(key) {
		case "user":
			u.User = v * tick
		case "system":
			u.Kernel = v * tick
		}
	})
	u.Total = f.number("cpuacct.usage", legacyNoLimit)
	for field := range bytes.FieldsSeq(f.read("cpuacct.usage_percpu")) {
		v, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			u.PerCPU = nil
			break
		}
		u.PerCPU = append(u.PerCPU, v)
	}
}

func legacyPids(f *files, m *stats.Metrics) {
	m.Pids = &stats.PidsStat{
		Current: f.number("pids.current", legacyNoLimit),
		Limit:   f.number("pids.max", legacyNoLimit),
	}
}

func legacyRdma(f *files, m *stats.Metrics) {
	read := func(name string) []*stats.RdmaEntry {
		var out []*stats.RdmaEntry
		for line := range bytes.Lines(f.read(name)) {
			if dev, handles, objects, ok := rdmaLine(line); ok {
				out = append(out, &stats.RdmaEntry{Device: dev, HcaHandles: handles, HcaObjects: objects})
			}
		}
		return out
	}
	current, limit := read("rdma.current"), read("rdma.max")
	if len(current) != len(limit) {
		return // a device went away in between
	}
	m.Rdma = &stats.RdmaStat{Current: current, Limit: limit}
}

func legacyHugetlb(f *files, m *stats.Metrics) {
	for _, size := range hugePageSizes() {
		m.Hugetlb = append(m.Hugetlb, &stats.HugetlbStat{
			Pagesize: size,
			Usage:    f.number("hugetlb."+size+".usage_in_bytes", legacyNoLimit),
			Max:      f.number("hugetlb."+size+".max_usage_in_bytes", legacyNoLimit),
			Failcnt:  f.number("hugetlb."+size+".failcnt", legacyNoLimit),
		})
	}
}
