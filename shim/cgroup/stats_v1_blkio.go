// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"os"
	"strconv"

	"github.com/containerd/cgroups/v3/cgroup1/stats"
)

// legacyBlkio reads the counters of the CFQ scheduler where the kernel still
// has it and it saw any I/O, and those of the throttling layer otherwise.
func legacyBlkio(f *files, m *stats.Metrics) {
	b := &stats.BlkIOStat{}
	m.Blkio = b
	names := deviceNames{}
	if f.exists("blkio.io_serviced_recursive") {
		b.SectorsRecursive = blkioEntries(f.read("blkio.sectors_recursive"), names)
		b.IoServiceBytesRecursive = blkioEntries(f.read("blkio.io_service_bytes_recursive"), names)
		b.IoServicedRecursive = blkioEntries(f.read("blkio.io_serviced_recursive"), names)
		b.IoQueuedRecursive = blkioEntries(f.read("blkio.io_queued_recursive"), names)
		b.IoServiceTimeRecursive = blkioEntries(f.read("blkio.io_service_time_recursive"), names)
		b.IoWaitTimeRecursive = blkioEntries(f.read("blkio.io_wait_time_recursive"), names)
		b.IoMergedRecursive = blkioEntries(f.read("blkio.io_merged_recursive"), names)
		b.IoTimeRecursive = blkioEntries(f.read("blkio.time_recursive"), names)
		if len(b.SectorsRecursive)+len(b.IoServiceBytesRecursive)+len(b.IoServicedRecursive)+
			len(b.IoQueuedRecursive)+len(b.IoServiceTimeRecursive)+len(b.IoWaitTimeRecursive)+
			len(b.IoMergedRecursive)+len(b.IoTimeRecursive) > 0 {
			return
		}
	}
	b.IoServicedRecursive = blkioEntries(f.read("blkio.throttle.io_serviced"), names)
	b.IoServiceBytesRecursive = blkioEntries(f.read("blkio.throttle.io_service_bytes"), names)
}

// blkioEntries reads "8:0 Read 4096" and "8:0 4096"; "Total 4096" is left out.
func blkioEntries(data []byte, names deviceNames) []*stats.BlkIOEntry {
	var out []*stats.BlkIOEntry
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue
		}
		major, minor, ok := device(fields[0])
		v, err := strconv.ParseUint(string(fields[len(fields)-1]), 10, 64)
		if !ok || err != nil {
			continue
		}
		e := &stats.BlkIOEntry{Device: names.get(major, minor), Major: major, Minor: minor, Value: v}
		if len(fields) > 2 {
			e.Op = string(fields[1])
		}
		out = append(out, e)
	}
	return out
}

type deviceNumber struct{ major, minor uint64 }

// deviceNames maps device numbers to paths in /dev. It is filled by the first
// lookup: a container without I/O needs no reading of /proc/partitions.
type deviceNames map[deviceNumber]string

func (d deviceNames) get(major, minor uint64) string {
	if len(d) == 0 {
		d.fill()
	}
	return d[deviceNumber{major, minor}]
}

func (d deviceNames) fill() {
	d[deviceNumber{}] = "" // filled, whatever follows
	data, err := os.ReadFile("/proc/partitions")
	if err != nil {
		return
	}
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) != 4 {
			continue
		}
		major, err1 := strconv.ParseUint(string(fields[0]), 10, 64)
		minor, err2 := strconv.ParseUint(string(fields[1]), 10, 64)
		if err1 != nil || err2 != nil {
			continue // the heading
		}
		if _, ok := d[deviceNumber{major, minor}]; !ok {
			d[deviceNumber{major, minor}] = "/dev/" + string(fields[3])
		}
	}
}
