// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// Place is a directory that an inner quoind shares with the outside, under the
// same name. It is on a disk: what a container has for its root cannot hold the
// upper layers of another overlay.
type Place struct{ dir string }

// settings of every inner quoind. Without CAP_SYS_RESOURCE in the initial user
// namespace no score can be lowered.
const settings = `version = 4
root = '%[1]s'
[debug]
  level = 'debug'
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '%[2]s'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  conf_dir = '%[1]s/cni'
%[3]s`

// NewPlace makes the files of one inner quoind in dir, which exists and is
// private to the test. Further is appended to the configuration. Everything
// belongs to uid, which is 0 for a quoind without a user namespace.
func NewPlace(t testing.TB, dir string, uid int, further string) *Place {
	t.Helper()
	p := &Place{dir}
	for _, sub := range []string{p.etc(), p.root(), p.run(), p.bin()} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(settings, p.root(), harness.PauseRef, further)
	for file, content := range map[string]string{
		filepath.Join(p.etc(), "config.toml"): text,
		p.hosts():                             "127.0.0.1 localhost\n",
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := harness.Busybox()
	if err != nil {
		t.Fatalf("build the busybox image: %v", err)
	}
	pause, err := harness.Pause(busybox)
	if err != nil {
		t.Fatalf("build the sandbox image: %v", err)
	}
	archive := harness.Archive(t, map[string]v1.Image{harness.BusyboxRef: busybox, harness.PauseRef: pause})
	if err := copyFile(archive, p.images()); err != nil {
		t.Fatalf("give the inner quoind its images: %v", err)
	}
	for _, path := range []string{p.root(), p.run()} {
		if err := errors.Join(os.Chown(path, uid, uid), os.Chmod(path, 0o711)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}

func (p *Place) etc() string    { return filepath.Join(p.dir, "etc", "quoind") }
func (p *Place) hosts() string  { return filepath.Join(p.dir, "etc", "hosts") }
func (p *Place) root() string   { return filepath.Join(p.dir, "root") }
func (p *Place) run() string    { return filepath.Join(p.dir, "run") }
func (p *Place) bin() string    { return filepath.Join(p.dir, "bin") }
func (p *Place) images() string { return filepath.Join(p.dir, "images.tar") }
func (p *Place) log() string    { return filepath.Join(p.run(), "log") }

// socket is where the outside finds the inner quoind's gRPC socket.
func (p *Place) socket() string {
	return filepath.Join(p.run(), filepath.Base(config.DefaultDaemon().Address))
}

// path finds the product, the machine's programs and those of busybox. The
// runtime of the product comes before one that the machine may have.
func (p *Place) path() string { return p.bin() + ":/usr/sbin:/usr/bin:/bin" }

// Log is the end of the inner quoind's log, without what is for debugging.
func (p *Place) Log() string {
	text, err := os.ReadFile(p.log())
	if err != nil {
		return err.Error()
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return strings.Contains(line, "level=debug") || strings.Contains(line, "loading plugin")
	})
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
