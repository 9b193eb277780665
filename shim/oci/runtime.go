// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/program"
)

// defaultBinary is looked up in PATH.
const defaultBinary = "runc"

// Children starts and waits for the processes of this package, so that whoever
// reaps adopted orphans does not take them for such.
type Children interface {
	// Start is cmd.Start; the child is known before it could be seen as an orphan.
	Start(*exec.Cmd) error
	// Wait is cmd.Wait, and forgets the child.
	Wait(*exec.Cmd) error
}

// Config of a Runtime.
type Config struct {
	// Binary is a name that is looked up in PATH, or a path. Empty means runc.
	Binary string
	// Root is the runtime's state directory, with the namespace. Empty leaves it
	// to the runtime.
	Root string
	// SystemdCgroup makes the runtime ask systemd for the container's cgroup.
	SystemdCgroup bool
	// Bundle is the absolute path of the bundle. log.json is written there.
	// Empty is allowed for Features and Version.
	Bundle string
	// Deadlines of the calls; a zero field means its default.
	Deadlines config.Deadlines
	// Children starts the processes. Nil means [program.Children].
	Children Children
	// Known is what this process has learnt of runtimes, shared by its Runtimes.
	// Nil means that this Runtime learns by itself.
	Known *Known
	// Manager asks systemd for a sign of life, by the way that the runtime uses, and
	// waits for it as long as it sees fit. Its error says who is silent; whatever
	// else goes wrong is none. It is called again and again while a call with
	// SystemdCgroup takes longer than it should, and ends that call: runtimes wait
	// for D-Bus without a limit. Nil asks nobody.
	Manager func(context.Context) error
	// Observe is told of each run of the binary: the operation, how long it took
	// and its error. Nil means that nobody is. It must not block.
	Observe func(op string, took time.Duration, err error)
}

// Runtime runs one OCI runtime on one bundle. It is safe for concurrent use; the
// OCI runtime itself locks what must not run at the same time.
type Runtime struct {
	cfg   Config
	known *Known
}

// Stdio are the standard streams of a container's process, handed to the runtime
// as they are. Nil means /dev/null.
type Stdio struct {
	Stdin, Stdout, Stderr *os.File
}

// New checks the configuration. It starts nothing, and does not look for the
// binary: one that is missing is reported by the call that needs it.
//
// Errors: errdefs.ErrInvalidArgument.
func New(cfg Config) (*Runtime, error) {
	if cfg.Binary == "" {
		cfg.Binary = defaultBinary
	}
	if strings.ContainsRune(cfg.Binary, '/') && !filepath.IsAbs(cfg.Binary) {
		return nil, fmt.Errorf("OCI runtime %q is neither a name nor an absolute path: %w", cfg.Binary, errdefs.ErrInvalidArgument)
	}
	if cfg.Bundle != "" && !filepath.IsAbs(cfg.Bundle) {
		return nil, fmt.Errorf("bundle path %q is not absolute: %w", cfg.Bundle, errdefs.ErrInvalidArgument)
	}
	if cfg.Children == nil {
		cfg.Children = program.Children{}
	}
	cfg.Deadlines = cfg.Deadlines.WithDefaults()
	if cfg.Observe == nil {
		cfg.Observe = func(string, time.Duration, error) {}
	}
	known := cfg.Known
	if known == nil {
		known = NewKnown()
	}
	return &Runtime{cfg: cfg, known: known}, nil
}

// Name of the runtime's binary as configured.
func (r *Runtime) Name() string { return r.cfg.Binary }
