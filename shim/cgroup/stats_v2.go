// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"context"
	"math"
	"strconv"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
)

// statsBuffer fits a memory.stat; larger files make it grow.
const statsBuffer = 4096

func (c *Cgroup) unifiedStats(ctx context.Context) *stats.Metrics {
	f := openFiles(c.unified, make([]byte, statsBuffer))
	defer f.close()
	m := &stats.Metrics{
		Pids: &stats.PidsStat{
			Current: f.number("pids.current", unlimited),
			Limit:   f.number("pids.max", unlimited),
		},
		CPU:          unifiedCPU(f),
		Memory:       unifiedMemory(f),
		MemoryEvents: unifiedMemoryEvents(f),
	}
	if ctx.Err() != nil {
		return m
	}
	m.Io = &stats.IOStat{Usage: unifiedIO(f.read("io.stat")), PSI: pressure(f.read("io.pressure"))}
	m.Rdma = &stats.RdmaStat{
		Current: unifiedRdma(f.read("rdma.current")),
		Limit:   unifiedRdma(f.read("rdma.max")),
	}
	for _, size := range hugePageSizes() {
		h := &stats.HugeTlbStat{
			Pagesize: size,
			Current:  f.number("hugetlb."+size+".current", unlimited),
			Max:      f.number("hugetlb."+size+".max", unlimited),
		}
		f.pairs("hugetlb."+size+".events", func(key []byte, v uint64) {
			if string(key) == "max" {
				h.Failcnt = v
			}
		})
		m.Hugetlb = append(m.Hugetlb, h)
	}
	return m
}

func unifiedCPU(f *files) *stats.CPUStat {
	s := &stats.CPUStat{}
	if !f.pairs("cpu.stat", func(key []byte, v uint64) {
		switch string(key) {
		case "usage_usec":
			s.UsageUsec = v
		case "user_usec":
			s.UserUsec = v
		case "system_usec":
			s.SystemUsec = v
		case "nr_periods":
			s.NrPeriods = v
		case "nr_throttled":
			s.NrThrottled = v
		case "throttled_usec":
			s.ThrottledUsec = v
		case "nr_bursts":
			s.NrBursts = v
		case "burst_usec":
			s.BurstUsec = v
		}
	}) {
		return s
	}
	s.PSI = pressure(f.read("cpu.pressure"))
	return s
}

// unifiedMemory leaves everything out, the pressure too, when the memory
// controller is not enabled, as github.com/containerd/cgroups does.
func unifiedMemory(f *files) *stats.MemoryStat {
	s := &stats.MemoryStat{}
	if !f.pairs("memory.stat", func(key []byte, v uint64) {
		if p := memoryField(s, string(key)); p != nil {
			*p = v
		}
	}) {
		return s
	}
	s.Usage = f.number("memory.current", unlimited)
	s.UsageLimit = f.number("memory.max", unlimited)
	s.MaxUsage = f.number("memory.peak", unlimited)
	s.SwapUsage = f.number("memory.swap.current", unlimited)
	s.SwapLimit = f.number("memory.swap.max", unlimited)
	s.SwapMaxUsage = f.number("memory.swap.peak", unlimited)
	s.PSI = pressure(f.read("memory.pressure"))
	return s
}

// memoryField maps a key of memory.stat to its field.
func memoryField(s *stats.MemoryStat, key string) *uint64 {
	switch key {
	case "anon":
		return &s.Anon
	case "file":
		return &s.File
	case "kernel_stack":
		return &s.KernelStack
	case "slab":
		return &s.Slab
	case "sock":
		return &s.Sock
	case "shmem":
		return &s.Shmem
	case "file_mapped":
		return &s.FileMapped
	case "file_dirty":
		return &s.FileDirty
	case "file_writeback":
		return &s.FileWriteback
	case "anon_thp":
		return &s.AnonThp
	case "inactive_anon":
		return &s.InactiveAnon
	case "active_anon":
		return &s.ActiveAnon
	case "inactive_file":
		return &s.InactiveFile
	case "active_file":
		return &s.ActiveFile
	case "unevictable":
		return &s.Unevictable
	case "slab_reclaimable":
		return &s.SlabReclaimable
	case "slab_unreclaimable":
		return &s.SlabUnreclaimable
	}
	return memoryEventField(s, key)
}

// memoryEventField is the half of memoryField that counts events.
func memoryEventField(s *stats.MemoryStat, key string) *uint64 {
	switch key {
	case "pgfault":
		return &s.Pgfault
	case "pgmajfault":
		return &s.Pgmajfault
	case "workingset_refault":
		return &s.WorkingsetRefault
	case "workingset_activate":
		return &s.WorkingsetActivate
	case "workingset_nodereclaim":
		return &s.WorkingsetNodereclaim
	case "pgrefill":
		return &s.Pgrefill
	case "pgscan":
		return &s.Pgscan
	case "pgsteal":
		return &s.Pgsteal
	case "pgactivate":
		return &s.Pgactivate
	case "pgdeactivate":
		return &s.Pgdeactivate
	case "pglazyfree":
		return &s.Pglazyfree
	case "pglazyfreed":
		return &s.Pglazyfreed
	case "thp_fault_alloc":
		return &s.ThpFaultAlloc
	case "thp_collapse_alloc":
		return &s.ThpCollapseAlloc
	}
	return nil
}

func unifiedMemoryEvents(f *files) *stats.MemoryEvents {
	e := &stats.MemoryEvents{}
	if !f.pairs("memory.events", func(key []byte, v uint64) {
		switch string(key) {
		case "low":
			e.Low = v
		case "high":
			e.High = v
		case "max":
			e.Max = v
		case "oom":
			e.Oom = v
		case "oom_kill":
			e.OomKill = v
		case "oom_group_kill":
			e.OomGroupKill = v
		}
	}) {
		return nil
	}
	return e
}

// unifiedIO reads "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6".
func unifiedIO(data []byte) []*stats.IOEntry {
	var out []*stats.IOEntry
	for line := range bytes.Lines(data) {
		dev, rest, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		major, minor, isDev := device(dev)
		if !ok || !isDev {
			continue
		}
		e := &stats.IOEntry{Major: major, Minor: minor}
		for field := range bytes.FieldsSeq(rest) {
			key, value, _ := bytes.Cut(field, []byte("="))
			v, err := strconv.ParseUint(string(value), 10, 64)
			if err != nil {
				continue
			}
			switch string(key) {
			case "rbytes":
				e.Rbytes = v
			case "wbytes":
				e.Wbytes = v
			case "rios":
				e.Rios = v
			case "wios":
				e.Wios = v
			}
		}
		out = append(out, e)
	}
	return out
}

// device reads "major:minor".
func device(s []byte) (major, minor uint64, ok bool) {
	a, b, found := bytes.Cut(s, []byte(":"))
	if !found {
		return 0, 0, false
	}
	major, err1 := strconv.ParseUint(string(a), 10, 64)
	minor, err2 := strconv.ParseUint(string(b), 10, 64)
	return major, minor, err1 == nil && err2 == nil
}

// unifiedRdma reads "mlx4_0 hca_handle=2 hca_object=max".
func unifiedRdma(data []byte) []*stats.RdmaEntry {
	var out []*stats.RdmaEntry
	for line := range bytes.Lines(data) {
		if name, handles, objects, ok := rdmaLine(line); ok {
			out = append(out, &stats.RdmaEntry{Device: name, HcaHandles: handles, HcaObjects: objects})
		}
	}
	return out
}

func rdmaLine(line []byte) (name string, handles, objects uint32, ok bool) {
	fields := bytes.Fields(line)
	if len(fields) != 3 {
		return "", 0, 0, false
	}
	for _, field := range fields[1:] {
		key, value, _ := bytes.Cut(field, []byte("="))
		n := uint64(math.MaxUint32)
		if string(value) != "max" {
			var err error
			if n, err = strconv.ParseUint(string(value), 10, 32); err != nil {
				continue
			}
		}
		switch string(key) {
		case "hca_handle":
			handles = uint32(n)
		case "hca_object":
			objects = uint32(n)
		}
	}
	return string(fields[0]), handles, objects, true
}
