// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Stats returns io.containerd.cgroups.v2.Metrics on a unified host and
// io.containerd.cgroups.v1.Metrics elsewhere, with the values that
// github.com/containerd/cgroups gives, in its units. What the kernel or a
// missing controller does not tell is zero.
//
// It answers as long as the directory is there, processes or not, and fails
// with ErrNotFound once it is gone. The work is bounded: the files are those of
// this one directory, each read up to 1 MiB. ctx is looked at between them.
func (c *Cgroup) Stats(ctx context.Context) (*anypb.Any, error) {
	if c == nil {
		return nil, c.notFound("read the statistics of")
	}
	var m proto.Message
	if c.mode == Unified {
		m = c.unifiedStats(ctx)
	} else {
		m = c.legacyStats(ctx)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read the statistics of %s: %w", c, err)
	}
	// Asked last, so that a removal meanwhile does not pass zeros for values.
	if !c.Exists() {
		return nil, c.notFound("read the statistics of")
	}
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the statistics of %s: %w", c, err)
	}
	// containerd's type URLs have no "type.googleapis.com/" before the name.
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}, nil
}

// hugePageSizes are the sizes in the kernel's file names ("2MB", "1GB"). The
// kernel settles them at boot, so one look serves the life of the process.
var hugePageSizes = sync.OnceValue(func() []string {
	d, err := os.Open("/sys/kernel/mm/hugepages")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	return parseHugePageSizes(names)
})

func parseHugePageSizes(names []string) []string {
	var out []string
	for _, name := range names {
		kb, ok := strings.CutSuffix(strings.TrimPrefix(name, "hugepages-"), "kB")
		n, err := strconv.ParseUint(kb, 10, 64)
		if !ok || err != nil {
			continue
		}
		switch {
		case n >= 1<<20:
			out = append(out, strconv.FormatUint(n>>20, 10)+"GB")
		case n >= 1<<10:
			out = append(out, strconv.FormatUint(n>>10, 10)+"MB")
		default:
			out = append(out, strconv.FormatUint(n, 10)+"KB")
		}
	}
	return out
}
