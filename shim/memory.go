// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/containerd/log"
)

// processors is how many threads run Go code at once in a shim: its work is done
// by the kernel and by the OCI runtime, and each further one costs 0.3 MB of
// private memory in every pod. OCI runtimes inherit it: what they do is short and
// sequential, and a runc that sees all processors of a large node starts threads
// for them, twice over with its init.
const processors = 1

// quietAfter is how long nothing may be asked of the shim before it gives back
// the memory that it does not need any more, and worthIt how much must have been
// allocated since the last time, in bytes. A collection makes Go's runtime set up
// tables of its own (up to 0.5 MB, never given back), more than a shim that has
// done little has to gain.
const (
	quietAfter = 2 * time.Second
	worthIt    = 2 << 20
)

// allocated is the metric of all that was ever allocated. runtime.ReadMemStats
// knows it too, but flushes the allocator's caches, which costs as much as a
// collection.
const allocated = "/gc/heap/allocs:bytes"

// thrift gives memory back once the shim has been left alone for a while. There
// is no timer while it is idle. The garbage collector's pace is Go's own: a lower
// GOGC was measured to cost more in such tables than it saves.
type thrift struct {
	mu    sync.Mutex
	timer *time.Timer // guarded by mu; nil while nothing is to be done
	total uint64      // bytes allocated when memory was given back last, guarded by mu
}

// busy says that something is being done, or, with changes false, only looked
// at, which puts nothing off: CRI looks at each container every second.
func (t *thrift) busy(changes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.timer == nil:
		t.timer = time.AfterFunc(quietAfter, t.giveBack)
	case changes:
		t.timer.Reset(quietAfter)
	}
}

func (t *thrift) giveBack() {
	sample := []metrics.Sample{{Name: allocated}}
	metrics.Read(sample)
	total := sample[0].Value.Uint64()
	t.mu.Lock()
	t.timer = nil
	worth := total-t.total >= worthIt
	if worth {
		t.total = total
	}
	t.mu.Unlock()
	if worth {
		debug.FreeOSMemory()
	}
}

// stop ends a pending timer.
func (t *thrift) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// dumpStacks logs what every goroutine does, and what memory is used for.
func dumpStacks() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	log.L.Infof("memory in bytes: heap %d in use, %d live, %d objects; stacks %d; runtime: spans %d, caches %d, gc %d, profiling %d, other %d; %d goroutines; %d allocated in all, %d collections",
		m.HeapInuse, m.HeapAlloc, m.HeapObjects, m.StackInuse, m.MSpanInuse, m.MCacheInuse, m.GCSys, m.BuckHashSys, m.OtherSys, runtime.NumGoroutine(), m.TotalAlloc, m.NumGC)
	for size := 16 << 10; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			log.L.Infof("goroutines:\n%s", buf[:n])
			return
		}
	}
}
