// SPDX-License-Identifier: Apache-2.0

package cgroup

import "github.com/containerd/cgroups/v3/cgroup1/stats"

// legacyMemory reads on where github.com/containerd/cgroups stops: without
// swap accounting there is no memory.memsw.*, but there still is kmem.
func legacyMemory(f *files, m *stats.Metrics) {
	s := &stats.MemoryStat{}
	f.pairs("memory.stat", func(key []byte, v uint64) {
		if p := legacyMemoryField(s, string(key)); p != nil {
			*p = v
		} else if p := legacyMemoryTotal(s, string(key)); p != nil {
			*p = v
		}
	})
	entry := func(prefix string) *stats.MemoryEntry {
		return &stats.MemoryEntry{
			Usage:   f.number(prefix+"usage_in_bytes", legacyNoLimit),
			Max:     f.number(prefix+"max_usage_in_bytes", legacyNoLimit),
			Failcnt: f.number(prefix+"failcnt", legacyNoLimit),
			Limit:   f.number(prefix+"limit_in_bytes", legacyNoLimit),
		}
	}
	s.Usage = entry("memory.")
	s.Swap = entry("memory.memsw.")
	s.Kernel = entry("memory.kmem.")
	s.KernelTCP = entry("memory.kmem.tcp.")
	m.Memory = s

	o := &stats.MemoryOomControl{}
	f.pairs("memory.oom_control", func(key []byte, v uint64) {
		switch string(key) {
		case "oom_kill_disable":
			o.OomKillDisable = v
		case "under_oom":
			o.UnderOom = v
		case "oom_kill":
			o.OomKill = v
		}
	})
	m.MemoryOomControl = o
}

// legacyMemoryField maps the keys of memory.stat that are about the cgroup
// alone.
func legacyMemoryField(s *stats.MemoryStat, key string) *uint64 {
	switch key {
	case "cache":
		return &s.Cache
	case "rss":
		return &s.RSS
	case "rss_huge":
		return &s.RSSHuge
	case "mapped_file":
		return &s.MappedFile
	case "dirty":
		return &s.Dirty
	case "writeback":
		return &s.Writeback
	case "pgpgin":
		return &s.PgPgIn
	case "pgpgout":
		return &s.PgPgOut
	case "pgfault":
		return &s.PgFault
	case "pgmajfault":
		return &s.PgMajFault
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
	case "hierarchical_memory_limit":
		return &s.HierarchicalMemoryLimit
	case "hierarchical_memsw_limit":
		return &s.HierarchicalSwapLimit
	}
	return nil
}

// legacyMemoryTotal maps those that include the cgroups below.
func legacyMemoryTotal(s *stats.MemoryStat, key string) *uint64 {
	switch key {
	case "total_cache":
		return &s.TotalCache
	case "total_rss":
		return &s.TotalRSS
	case "total_rss_huge":
		return &s.TotalRSSHuge
	case "total_mapped_file":
		return &s.TotalMappedFile
	case "total_dirty":
		return &s.TotalDirty
	case "total_writeback":
		return &s.TotalWriteback
	case "total_pgpgin":
		return &s.TotalPgPgIn
	case "total_pgpgout":
		return &s.TotalPgPgOut
	case "total_pgfault":
		return &s.TotalPgFault
	case "total_pgmajfault":
		return &s.TotalPgMajFault
	case "total_inactive_anon":
		return &s.TotalInactiveAnon
	case "total_active_anon":
		return &s.TotalActiveAnon
	case "total_inactive_file":
		return &s.TotalInactiveFile
	case "total_active_file":
		return &s.TotalActiveFile
	case "total_unevictable":
		return &s.TotalUnevictable
	}
	return nil
}
