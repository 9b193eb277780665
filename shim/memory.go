// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/log"
)

// processors is how many threads run Go code at once in a shim: its work is done
// by the kernel and by the OCI runtime, and each further one costs 0.3 MB of
// private memory in every pod.
const processors = 1

// gcPercent trades a little CPU, in a process that sleeps nearly always, for a
// heap that stays small: the first collection comes at 1.6 MB.
const gcPercent = 40

// quietAfter is how long nothing may be asked of the shim before it gives back
// the memory that it does not need any more.
const quietAfter = 2 * time.Second

// thrift gives memory back once the shim has been left alone for a while. There
// is no timer while it is idle.
type thrift struct {
	mu    sync.Mutex
	timer *time.Timer // guarded by mu
	seen  int64       // collections before the last one of its own, guarded by mu
}

// busy says that something is being done.
func (t *thrift) busy() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil {
		t.timer = time.AfterFunc(quietAfter, t.giveBack)
		return
	}
	t.timer.Reset(quietAfter)
}

// giveBack collects garbage only where there was a collection since the last
// time. A shim that has never needed one is the smallest: each of the first
// cycles has Go's runtime make tables of its own (0.4 MB), more than there is to
// give back.
func (t *thrift) giveBack() {
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	t.mu.Lock()
	idle := stats.NumGC == t.seen
	if !idle {
		t.seen = stats.NumGC + 1
	}
	t.mu.Unlock()
	if !idle {
		debug.FreeOSMemory()
	}
}

// stop ends a pending timer.
func (t *thrift) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
}

// dumpStacks logs what every goroutine does, and what memory is used for.
func dumpStacks() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	log.L.Infof("memory in bytes: heap %d in use, %d live, %d objects; stacks %d; runtime: spans %d, caches %d, gc %d, profiling %d, other %d; %d goroutines",
		m.HeapInuse, m.HeapAlloc, m.HeapObjects, m.StackInuse, m.MSpanInuse, m.MCacheInuse, m.GCSys, m.BuckHashSys, m.OtherSys, runtime.NumGoroutine())
	for size := 16 << 10; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			log.L.Infof("goroutines:\n%s", buf[:n])
			return
		}
	}
}
