// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// TestOldRuntimeIsWarnedAbout: once in the life of a shim, in the daemon's log.
func TestOldRuntimeIsWarnedAbout(t *testing.T) {
	b := newBed(t)
	fifo := filepath.Join(b.bundle, "log")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	daemon, err := os.OpenFile(fifo, os.O_RDWR, 0) // does not wait for the shim
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	b.fake.Set("--version", ocitest.Failpoint{Stdout: "runc version 1.1.5+ds1\nspec: 1.0.2-dev\n"})
	s := b.start()
	said := make(chan string, 1024)
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := daemon.Read(buf)
			if err != nil {
				close(said)
				return
			}
			said <- string(buf[:n])
		}
	}()
	s.run(b)
	const warning = "runc 1.1.5+ds1 is older than 1.3.6 and has known container escapes"
	var all strings.Builder
	for text := range said {
		if all.WriteString(text); strings.Contains(all.String(), warning) {
			break
		}
	}
	s.remove(b)
	s.run(b)
	s.remove(b)
	if got := strings.Count(strings.Join(b.fake.Steps(), " "), "--version"); got != 1 {
		t.Errorf("the runtime was asked %d times", got)
	}
}
