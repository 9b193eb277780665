// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/bootstrap"
	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/ledger"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/program"
)

// deletion is the end of one container whose shim is gone.
type deletion struct {
	namespace, id string
	bundle        *bundle.Bundle
	// dir is the bundle's directory, held so that no other gets its inode.
	dir *os.File
	// born says that there may be something to end: then birth is what is known.
	born  bool
	birth ledger.Birth
	// address of the shim; "" when it is nowhere noted.
	address string
	// init is the container's first process, nil if it is gone. sure says that it is
	// that beyond doubt; without a birth record it is what init.pid names.
	init *ledger.Witness
	sure bool
	// execs are those whose exit nobody has told.
	execs []*orphan
}

// newDeletion finds the processes, before any of them is ended: how one ends is
// known only to those who hold on to it.
func (c *command) newDeletion(ctx context.Context, b *bundle.Bundle) *deletion {
	d := &deletion{namespace: c.namespace, id: c.id, bundle: b}
	if dir, err := os.Open(b.Path()); err == nil {
		d.dir = dir
	}
	birth, err := ledger.ReadBirth(b.Path())
	switch {
	case err == nil:
		d.born, d.birth = true, birth
	case !errdefs.IsNotFound(err):
		d.born = true
		log.G(ctx).WithError(err).Warn("what the shim has made is known only from the OCI runtime")
	}
	switch {
	case birth.Process != (ledger.Identity{}):
		d.init, d.sure = watch(ctx, birth.Process), true
	default:
		if pid := readPid(b.InitPidPath()); pid > 0 {
			if id, err := ledger.Identify(pid); err == nil {
				d.init = watch(ctx, id)
			}
		}
	}
	if d.born {
		d.address = shimAddress(ctx, b.Path(), d.birth.Spool)
		d.findExecs(ctx)
	}
	if d.born && d.init == nil {
		d.askDaemon(ctx)
	}
	return d
}

// shimAddress is what the daemon has noted in the bundle, which it may remove at any
// moment, or in that which the shim was started in.
func shimAddress(ctx context.Context, bundles ...string) string {
	for _, path := range bundles {
		if path == "" {
			continue
		}
		address, err := bootstrap.BundleAddress(path)
		if err == nil {
			return address
		}
		if !errdefs.IsNotFound(err) {
			log.G(ctx).WithError(err).Warn("the shim's address")
		}
	}
	return ""
}

func (d *deletion) findExecs(ctx context.Context) {
	births, err := ledger.ExecBirths(d.bundle.Path())
	if err != nil {
		log.G(ctx).WithError(err).Warn("exits of execs will not be told")
	}
	for _, birth := range births {
		if _, err := ledger.ReadExec(d.bundle.Path(), birth.Exec); errdefs.IsNotFound(err) {
			d.execs = append(d.execs, &orphan{birth: birth, witness: watch(ctx, birth.Process)})
		}
	}
}

// watch returns nil for a process that is gone.
func watch(ctx context.Context, id ledger.Identity) *ledger.Witness {
	w, err := ledger.Watch(id)
	if err == nil {
		return w
	}
	if !errdefs.IsNotFound(err) {
		log.G(ctx).WithError(err).Warn("how a process ends will not be known")
	}
	return nil
}

func (d *deletion) close() {
	if d.dir != nil {
		_ = d.dir.Close() // it was only held
	}
	if d.init != nil {
		_ = d.init.Close() // the process ends now
	}
	for _, e := range d.execs {
		if e.witness != nil {
			_ = e.witness.Close()
		}
	}
}

// replaced says that another container has the path of the bundle by now, and with it
// the cgroup and the name with the shim and the OCI runtime. A daemon removes the
// bundle of a create that failed while its cleanup goes on, and the id is free again.
func (d *deletion) replaced() bool {
	if d.dir == nil {
		return false // it was not readable
	}
	then, err := d.dir.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(d.bundle.Path())
	return err == nil && !os.SameFile(then, now)
}

// end ends the container and tells how it ended. An error says that it goes on.
func (d *deletion) end(ctx context.Context) (ledger.Exit, error) {
	if d.born {
		if err := d.endShim(ctx); err != nil {
			return ledger.Exit{}, err
		}
	}
	if d.replaced() {
		d.kill(ctx)
		return ledger.Exit{}, fmt.Errorf("another container has the bundle %s by now, and is left alone: %w", d.bundle.Path(), errdefs.ErrNotFound)
	}
	cg := d.cgroup()
	if d.init != nil && !d.sure && cg != nil {
		// It was made, and its shim died before it could record that.
		pids, err := cg.Pids()
		d.sure = err == nil && slices.Contains(pids, d.init.Identity().Pid)
	}
	d.kill(ctx)
	if err := killCgroup(ctx, cg); err != nil {
		log.G(ctx).WithError(err).Warn("end the container's processes")
	}
	if err := d.deleteFromRuntime(ctx); err != nil {
		// The rest can still be cleaned up, and the status be told.
		log.G(ctx).WithError(err).Warn("remove the container from the OCI runtime")
	}
	if err := d.gone(ctx, cg); err != nil {
		return ledger.Exit{}, err
	}
	learning, cancel := context.WithTimeout(ctx, learnLimit)
	defer cancel()
	for _, e := range d.execs {
		e.learn(learning, d.bundle.Path())
	}
	return d.exit(ctx), nil
}

// kill ends the processes that are known beyond doubt.
func (d *deletion) kill(ctx context.Context) {
	if d.init != nil && d.sure {
		if err := d.init.Kill(); err != nil {
			log.G(ctx).WithError(err).Warn("end the container's first process")
		}
	}
	for _, e := range d.execs {
		if e.witness == nil {
			continue
		}
		if err := e.witness.Kill(); err != nil {
			log.G(ctx).WithError(err).Warn("end an exec of the container")
		}
	}
}

// cgroup is what the container has of its own; nil when there is none.
func (d *deletion) cgroup() *cgroup.Cgroup {
	path := d.birth.CgroupsPath
	if path == "" {
		return nil
	}
	cg, err := cgroup.Open(path)
	if err != nil {
		return nil // it went with its last process, or never was
	}
	return cg
}

// killCgroup ends every process of the container. A cgroup that is not the
// container's alone, or holds this process, is left alone.
func killCgroup(ctx context.Context, cg *cgroup.Cgroup) error {
	if cg == nil {
		return nil
	}
	err := cg.Kill(ctx, unix.SIGKILL)
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return nil
	}
	return err
}

// deleteFromRuntime removes the container from the OCI runtime, if it is still
// there: after an orderly delete it is not, and no runtime is run.
func (d *deletion) deleteFromRuntime(ctx context.Context) error {
	opts, err := d.bundle.ReadOptions()
	if err != nil {
		return err
	}
	root := opts.Root
	if root == "" {
		root = runtimeRoot
	}
	root = filepath.Join(root, d.namespace)
	if !oci.Holds(root, d.id) {
		return nil
	}
	limits := deadlines(ctx)
	runtime, err := oci.New(oci.Config{
		Binary:        opts.BinaryName,
		Root:          root,
		SystemdCgroup: opts.SystemdCgroup,
		Bundle:        d.bundle.Path(),
		Deadlines:     limits,
		Manager:       systemd{children: program.Children{}, limit: limits.Bus}.alive,
	})
	if err != nil {
		return err
	}
	if err := runtime.Delete(ctx, d.id, true); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// gone waits for the end of all processes, and removes the cgroup that a runtime
// has left which died with the shim.
func (d *deletion) gone(ctx context.Context, cg *cgroup.Cgroup) error {
	if d.init != nil && d.sure {
		if err := d.init.Wait(ctx); err != nil {
			return fmt.Errorf("container %q goes on without a shim: %w", d.id, err)
		}
	}
	if cg == nil || cgroup.Shape(d.birth.CgroupsPath) == cgroup.Systemd {
		return nil // systemd collects its own
	}
	if cg = d.cgroup(); cg == nil {
		return nil
	}
	if err := killCgroup(ctx, cg); err != nil {
		return fmt.Errorf("container %q goes on without a shim: %w", d.id, err)
	}
	if err := cg.Remove(ctx); err != nil && !errdefs.IsFailedPrecondition(err) {
		log.G(ctx).WithError(err).Warn("remove the container's cgroup")
	}
	return nil
}

// forget says that nothing is left, so that another delete has nothing to do.
func (d *deletion) forget(ctx context.Context) {
	if err := ledger.RemoveBirth(d.bundle.Path()); err != nil {
		log.G(ctx).WithError(err).Warn("the container is gone, and is ended again by the next delete")
	}
}

// readPid reads a pid file; 0 when it names no process.
func readPid(path string) int {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 31)
	if err != nil {
		return 0
	}
	return int(pid)
}
