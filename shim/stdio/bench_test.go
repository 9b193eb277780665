// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// drainFIFO reads path to its end without copying.
func drainFIFO(b *testing.B, path string) chan int64 {
	got := make(chan int64, 1)
	go func() {
		f, err := os.Open(path)
		if err != nil {
			b.Error(err)
			got <- 0
			return
		}
		defer f.Close()
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<16))
		got <- n
	}()
	return got
}

// BenchmarkFIFO copies what a process writes, in pieces of several sizes.
func BenchmarkFIFO(b *testing.B) {
	for _, size := range []int{80, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkOutput(b, size, func(out string) string { return out }) })
	}
}

// BenchmarkFile is the same with what is no pipe, which needs buffers.
func BenchmarkFile(b *testing.B) {
	benchmarkOutput(b, 64<<10, func(string) string { return "/dev/null" })
}

// BenchmarkLog is the same with a file in memory, which is emptied now and then.
func BenchmarkLog(b *testing.B) {
	for _, size := range []int{80, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f, err := os.CreateTemp("/dev/shm", "log")
			if err != nil {
				b.Fatal(err)
			}
			defer os.Remove(f.Name())
			defer f.Close()
			stop := make(chan struct{})
			go func() {
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
						_ = f.Truncate(0)
					case <-stop:
						return
					}
				}
			}()
			benchmarkOutput(b, size, func(string) string { return f.Name() })
			close(stop)
		})
	}
}

func benchmarkOutput(b *testing.B, size int, to func(string) string) {
	out := mkfifo(b, "out")
	name := to(out)
	i := mustOpen(b, Streams{Stdout: name}, testOptions(b))
	var got chan int64
	if name == out {
		got = drainFIFO(b, out)
	}
	_, stdout, _ := i.Child()
	fd, err := unix.FcntlInt(stdout.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	w := os.NewFile(uintptr(fd), "writer")
	if err := i.Started(testContext(b)); err != nil {
		b.Fatal(err)
	}
	piece := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Write(piece); err != nil {
			b.Fatal(err)
		}
	}
	w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := i.Drain(ctx); err != nil {
		b.Fatal(err)
	}
	if got != nil {
		if n := <-got; n != int64(b.N)*int64(size) {
			b.Fatalf("%d bytes of %d", n, b.N*size)
		}
	}
}

// BenchmarkOpenClose is what one process costs when it writes nothing.
func BenchmarkOpenClose(b *testing.B) {
	in, out, errs := mkfifo(b, "in"), mkfifo(b, "out"), mkfifo(b, "err")
	for _, path := range []string{out, errs} {
		f := openReader(b, path)
		defer f.Close()
	}
	o := testOptions(b)
	b.ReportAllocs()
	for b.Loop() {
		i, err := Open(context.Background(), Streams{Stdin: in, Stdout: out, Stderr: errs}, o)
		if err != nil {
			b.Fatal(err)
		}
		if err := i.Started(context.Background()); err != nil {
			b.Fatal(err)
		}
		if err := i.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle tells what an IO keeps in memory, of the heap and of stacks,
// while nothing flows.
func BenchmarkIdle(b *testing.B) {
	in, out, errs := mkfifo(b, "in"), mkfifo(b, "out"), mkfifo(b, "err")
	for _, path := range []string{out, errs} {
		f := openReader(b, path)
		defer f.Close()
	}
	o := testOptions(b)
	inUse := func() (heap, stacks float64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc), float64(m.StackInuse)
	}
	const count = 1000
	for b.Loop() {
		all, held := make([]*IO, count), make([]int, 0, 3*count)
		heap, stacks := inUse()
		for n := range all {
			i, err := Open(context.Background(), Streams{Stdin: in, Stdout: out, Stderr: errs}, o)
			if err != nil {
				b.Fatal(err)
			}
			for _, end := range ends(i.Child()) {
				fd, err := unix.FcntlInt(end.Fd(), unix.F_DUPFD_CLOEXEC, 0)
				if err != nil {
					b.Fatal(err)
				}
				held = append(held, fd)
			}
			if err := i.Started(context.Background()); err != nil {
				b.Fatal(err)
			}
			all[n] = i
		}
		heapNow, stacksNow := inUse()
		b.ReportMetric((heapNow-heap)/count, "heap-bytes/IO")
		b.ReportMetric((stacksNow-stacks)/count, "stack-bytes/IO")
		for _, i := range all {
			if err := i.Close(); err != nil {
				b.Fatal(err)
			}
		}
		for _, fd := range held {
			_ = unix.Close(fd)
		}
	}
}

func ends(stdin, stdout, stderr *os.File) []*os.File { return []*os.File{stdin, stdout, stderr} }
