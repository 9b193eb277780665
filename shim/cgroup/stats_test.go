// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/cgroups/v3/cgroup1"
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// sameAs compares Stats with github.com/containerd/cgroups, which containerd's
// own shim uses. Counters move between the two readings, so that a few tries
// are allowed; a field that we read wrongly never becomes equal.
func sameAs(t *testing.T, c *Cgroup, into proto.Message, want func() proto.Message) {
	t.Helper()
	var diff string
	for range 20 {
		before := want()
		got, err := c.Stats(t.Context())
		must(t, err)
		if wantURL := string(into.ProtoReflect().Descriptor().FullName()); got.TypeUrl != wantURL {
			t.Fatalf("type %s, want %s", got.TypeUrl, wantURL)
		}
		must(t, proto.Unmarshal(got.Value, into))
		if diff = cmp.Diff(before, into, protocmp.Transform(), protocmp.SortRepeatedFields(&v2.Metrics{}, "hugetlb")); diff == "" {
			return
		}
	}
	t.Errorf("differs from containerd/cgroups (-want +got):\n%s", diff)
}

func TestStatsLegacy(t *testing.T) {
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	p.tell(t, "work")
	p.expect(t, "worked")
	ref, err := cgroup1.Load(cgroup1.StaticPath(testName(t)))
	must(t, err)
	want := func() proto.Message {
		m, err := ref.Stat(cgroup1.IgnoreNotExist)
		must(t, err)
		return m
	}
	got := &v1.Metrics{}
	sameAs(t, c, got, want)
	if got.CPU.Usage.Total == 0 || got.Memory.Usage.Usage == 0 || got.Pids.Current == 0 || got.Blkio == nil || got.MemoryOomControl == nil {
		t.Errorf("nothing was measured: %v", got)
	}
	p.tell(t, "exit")
	_ = p.Wait()
	eventually(t, "emptiness", func() bool { return !c.Populated() })
	sameAs(t, c, got, want)
}

func TestStatsUnified(t *testing.T) {
	if !inUnified(t) {
		return
	}
	p := start(t, "idle")
	c := makeUnified(t, p.Process.Pid)
	p.tell(t, "work")
	p.expect(t, "worked")
	ref, err := cgroup2.Load(testName(t))
	must(t, err)
	want := func() proto.Message {
		m, err := ref.Stat()
		must(t, err)
		return m
	}
	got := &v2.Metrics{}
	sameAs(t, c, got, want)
	if got.CPU.UsageUsec == 0 || got.CPU.PSI == nil || got.Io.PSI == nil || len(got.Hugetlb) == 0 {
		t.Errorf("nothing was measured: %v", got)
	}
	p.tell(t, "exit")
	_ = p.Wait()
	eventually(t, "emptiness", func() bool { return !c.Populated() })
	sameAs(t, c, got, want)
}

// unifiedFiles are those of a cgroup with every controller, as kernel 6.x
// shows them, with odd but possible contents.
var unifiedFiles = map[string]string{
	"c/cgroup.procs":   "",
	"c/pids.current":   "7\n",
	"c/pids.max":       "max\n",
	"c/cpu.stat":       "usage_usec 11\nuser_usec 12\nsystem_usec 13\nnice_usec 9\nnr_periods 14\nnr_throttled 15\nthrottled_usec 16\nnr_bursts 17\nburst_usec 18\n",
	"c/cpu.pressure":   "some avg10=1.25 avg60=2.50 avg300=3.75 total=12345\nfull avg10=0.01 avg60=0.02 avg300=0.03 total=99\n",
	"c/io.pressure":    "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
	"c/memory.current": "4096\n", "c/memory.max": "max\n", "c/memory.peak": "8192\n",
	"c/memory.swap.current": "1\n", "c/memory.swap.max": "2\n", "c/memory.swap.peak": "3\n",
	"c/memory.pressure": "some avg10=0.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
	"c/memory.events":   "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\nsock_throttled 7\n",
	"c/memory.stat": "anon 101\nfile 102\nkernel 103\nkernel_stack 104\npagetables 1\nsock 105\nshmem 106\nzswap 0\nfile_mapped 107\n" +
		"file_dirty 108\nfile_writeback 109\nswapcached 0\nanon_thp 110\ninactive_anon 111\nactive_anon 112\ninactive_file 113\nactive_file 114\n" +
		"unevictable 115\nslab_reclaimable 116\nslab_unreclaimable 117\nslab 118\nworkingset_refault 119\nworkingset_activate 120\n" +
		"workingset_nodereclaim 121\npgscan 122\npgsteal 123\npgfault 124\npgmajfault 125\npgrefill 126\npgactivate 127\npgdeactivate 128\n" +
		"pglazyfree 129\npglazyfreed 130\nthp_fault_alloc 131\nthp_collapse_alloc -1\n",
	"c/io.stat":             "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 \n254:1 259:0 rbytes=7\n",
	"c/rdma.current":        "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n",
	"c/rdma.max":            "mlx4_0 hca_handle=max hca_object=9\nocrdma1 hca_handle=3 hca_object=max\n",
	"c/hugetlb.2MB.current": "2097152\n", "c/hugetlb.2MB.max": "max\n", "c/hugetlb.2MB.events": "max 4\n",
	"c/hugetlb.1GB.current": "0\n", "c/hugetlb.1GB.max": "1073741824\n", "c/hugetlb.1GB.events": "max 0\n",
}

func TestStatsUnifiedFiles(t *testing.T) {
	long := strings.Repeat("8:0 rbytes=18446744073709551615 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n", 500)
	for name, change := range map[string]map[string]string{
		"all controllers":      nil,
		"more than the buffer": {"c/io.stat": long},
		"empty files":          {"c/io.stat": "", "c/memory.events": "", "c/rdma.max": "", "c/io.pressure": ""},
		"no controllers":       {"c/memory.stat": "-", "c/cpu.stat": "-", "c/io.stat": "-", "c/pids.max": "-", "c/memory.events": "-", "c/rdma.max": "-"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for k, v := range unifiedFiles {
				files[k] = v
			}
			for k, v := range change {
				if files[k] = v; v == "-" {
					delete(files, k)
				}
			}
			root := fake(t, files)
			ref, err := cgroup2.Load("/c", cgroup2.WithMountpoint(root))
			must(t, err)
			sameAs(t, &Cgroup{mode: Unified, unified: filepath.Join(root, "c")}, &v2.Metrics{}, func() proto.Message {
				m, err := ref.Stat()
				must(t, err)
				return m
			})
		})
	}
}

func TestStatsLegacyFiles(t *testing.T) {
	const serviced = "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\n254:0 Read 4\nTotal 7\n"
	files := map[string]string{
		"cpu/c/cpu.stat":                      "nr_periods 1\nnr_throttled 2\nthrottled_time 3\nnr_bursts 4\n",
		"cpuacct/c/cpuacct.stat":              "user 5\nsystem 6\n",
		"cpuacct/c/cpuacct.usage":             "123456789\n",
		"cpuacct/c/cpuacct.usage_percpu":      "1 2 3 4 \n",
		"pids/c/pids.current":                 "3\n",
		"pids/c/pids.max":                     "max\n",
		"rdma/c/rdma.current":                 "mlx4_0 hca_handle=2 hca_object=2000\n",
		"rdma/c/rdma.max":                     "mlx4_0 hca_handle=max hca_object=9\n",
		"blkio/c/blkio.io_serviced_recursive": serviced, "blkio/c/blkio.sectors_recursive": "8:0 77\n",
		"blkio/c/blkio.io_service_bytes_recursive": serviced, "blkio/c/blkio.io_queued_recursive": "Total 0\n",
		"blkio/c/blkio.io_service_time_recursive": serviced, "blkio/c/blkio.io_wait_time_recursive": serviced,
		"blkio/c/blkio.io_merged_recursive": serviced, "blkio/c/blkio.time_recursive": "8:0 5\n",
		"memory/c/memory.oom_control": "oom_kill_disable 1\nunder_oom 1\noom_kill 9\n",
		"memory/c/memory.stat": "cache 1\nrss 2\nrss_huge 3\nmapped_file 4\ndirty 5\nwriteback 6\npgpgin 7\npgpgout 8\npgfault 9\npgmajfault 10\n" +
			"inactive_anon 11\nactive_anon 12\ninactive_file 13\nactive_file 14\nunevictable 15\nhierarchical_memory_limit 16\nhierarchical_memsw_limit 17\n" +
			"total_cache 18\ntotal_rss 19\ntotal_rss_huge 20\ntotal_mapped_file 21\ntotal_dirty 22\ntotal_writeback 23\ntotal_pgpgin 24\ntotal_pgpgout 25\n" +
			"total_pgfault 26\ntotal_pgmajfault 27\ntotal_inactive_anon 28\ntotal_active_anon 29\ntotal_inactive_file 30\ntotal_active_file 31\ntotal_unevictable 32\n",
	}
	for i, prefix := range []string{"memory.", "memory.memsw.", "memory.kmem.", "memory.kmem.tcp."} {
		for j, name := range []string{"usage_in_bytes", "max_usage_in_bytes", "failcnt", "limit_in_bytes"} {
			files["memory/c/"+prefix+name] = strings.Repeat(string(rune('1'+i)), j+1) + "\n"
		}
	}
	for _, size := range []string{"2MB", "1GB"} {
		for i, name := range []string{"usage_in_bytes", "max_usage_in_bytes", "failcnt"} {
			files["hugetlb/c/hugetlb."+size+"."+name] = string(rune('1'+i)) + "\n"
		}
	}
	root := fake(t, files)
	hugetlb, err := cgroup1.NewHugetlb(root)
	must(t, err)
	systems := []cgroup1.Subsystem{cgroup1.NewCpu(root), cgroup1.NewCpuacct(root), cgroup1.NewMemory(root),
		cgroup1.NewPids(root), cgroup1.NewBlkio(root), cgroup1.NewRdma(root), hugetlb}
	ref, err := cgroup1.Load(cgroup1.StaticPath("/c"), cgroup1.WithHierarchy(func() ([]cgroup1.Subsystem, error) { return systems, nil }))
	must(t, err)
	c := &Cgroup{mode: Legacy}
	for _, s := range systems {
		c.legacy = append(c.legacy, legacyDir{controller: string(s.Name()), dir: filepath.Join(root, string(s.Name()), "c")})
	}
	sameAs(t, c, &v1.Metrics{}, func() proto.Message {
		m, err := ref.Stat()
		must(t, err)
		return m
	})
}

// Without swap accounting the rest of the memory is measured all the same.
func TestStatsLegacyWithoutSwap(t *testing.T) {
	root := fake(t, map[string]string{"m/memory.usage_in_bytes": "5\n", "m/memory.kmem.usage_in_bytes": "6\n"})
	c := &Cgroup{mode: Legacy, legacy: []legacyDir{{controller: "memory", dir: root + "/m"}}}
	got, err := c.Stats(t.Context())
	must(t, err)
	m := &v1.Metrics{}
	must(t, proto.Unmarshal(got.Value, m))
	if m.Memory.Usage.Usage != 5 || m.Memory.Kernel.Usage != 6 || m.Memory.Swap.Usage != 0 {
		t.Errorf("%v", m.Memory)
	}
}

func TestStatsHonoursContext(t *testing.T) {
	root := fake(t, unifiedFiles)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Cgroup{mode: Unified, unified: root + "/c"}).Stats(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestParseHugePageSizes(t *testing.T) {
	got := parseHugePageSizes([]string{"hugepages-1048576kB", "hugepages-2048kB", "hugepages-64kB", "hugepages-x", "README"})
	if !slices.Equal(got, []string{"1GB", "2MB", "64KB"}) {
		t.Errorf("got %v", got)
	}
}

func FuzzStatsFiles(f *testing.F) {
	for _, data := range unifiedFiles {
		f.Add([]byte(data))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		unifiedIO(data)
		unifiedRdma(data)
		pressure(data)
		valueOf(data, "oom_kill")
		blkioEntries(data, deviceNames{})
		_, _ = parseMemberships(string(data))
		_, _ = parseMounts(strings.NewReader(string(data)))
		_, _ = fsPath(string(data))
	})
}

func BenchmarkStatsUnified(b *testing.B) {
	root := b.TempDir()
	c := &Cgroup{mode: Unified, unified: root}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Stats(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
