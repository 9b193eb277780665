// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// waitEvents blocks until key has the value want in the cgroup.events of a
// cgroup2 directory. kernfs wakes whoever polls that file when it changes, so
// the file sits in Go's own poller: no inotify instance, no thread, no ticker.
func waitEvents(ctx context.Context, dir, key string, want uint64) error {
	f, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		var v uint64
		v, readErr = eventValue(int(fd), key)
		return readErr != nil || v == want
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("wait for %q to become %d: %w", key, want, context.Cause(ctx))
	}
	return errors.Join(err, readErr)
}

// eventValue reads one value of an events file from its beginning, which also
// tells kernfs that the change was seen.
func eventValue(fd int, key string) (uint64, error) {
	var buf [1024]byte
	n, err := retryInt(func() (int, error) { return unix.Pread(fd, buf[:], 0) })
	if err != nil {
		return 0, err
	}
	return valueOf(buf[:n], key), nil
}

// valueOf finds one value among "key value" lines; 0 when it is not there.
func valueOf(data []byte, key string) uint64 {
	for line := range bytes.Lines(data) {
		if k, v, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" ")); string(k) == key {
			return parseNumber(string(v))
		}
	}
	return 0
}

// backoff waits ever longer between two looks at what nobody wakes us for: the v1
// freezer, the v1 cgroup.procs, and an eventfd that another reads, too.
type backoff struct{ delay time.Duration }

const (
	firstDelay = 200 * time.Microsecond
	lastDelay  = 20 * time.Millisecond
)

func (b *backoff) wait(ctx context.Context) error {
	b.delay = min(max(2*b.delay, firstDelay), lastDelay)
	t := time.NewTimer(b.delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
