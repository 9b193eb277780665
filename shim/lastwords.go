// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"

	"github.com/quoin-io/quoin/shim/ledger"
)

// learnLimit bounds the wait for execs that were killed, so that time is left to tell
// how the container ended.
const learnLimit = time.Second

// orphan is an exec that had not ended when its shim did.
type orphan struct {
	birth   ledger.Birth
	witness *ledger.Witness // nil if it was gone
	exit    ledger.Exit
}

// askDaemon has quoind put on record how the init ended, which it knows though
// nobody else was there. Other daemons know of no such question.
func (d *deletion) askDaemon(ctx context.Context) {
	address := os.Getenv("TTRPC_ADDRESS")
	if address == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := ledger.Settle(ctx, address, d.bundle.Path()); err != nil && !errdefs.IsNotImplemented(errgrpc.ToNative(err)) {
		log.G(ctx).WithError(err).Debug("the daemon does not say how the container ended")
	}
}

// exit is what is told: the recorded exit, or what was learnt of it now, which is
// put on record, so that it is told no differently another time.
func (d *deletion) exit(ctx context.Context) ledger.Exit {
	exit, err := ledger.Read(d.bundle.Path())
	if err == nil {
		return exit
	}
	if !errdefs.IsNotFound(err) {
		log.G(ctx).WithError(err).Warn("read the exit record")
	}
	exit = ledger.Exit{At: time.Now(), Pid: d.birth.Process.Pid, Status: ledger.UnknownStatus, Unknown: true}
	if exit.Pid == 0 {
		exit.Pid = readPid(d.bundle.InitPidPath())
	}
	if d.init != nil && d.init.Dead() {
		if learnt, err := d.init.Exit(ctx); err == nil {
			exit = learnt
		}
	}
	if exit.Pid == 0 {
		return exit // no process was made
	}
	if exit.Unknown {
		log.G(ctx).Warnf("the container ended after its shim and nobody saw how: status %d stands for an unknown one, and the time is that of now", exit.Status)
	}
	if err := ledger.Record(d.bundle.Path(), exit); err != nil {
		log.G(ctx).WithError(err).Warn("record the exit")
	}
	return exit
}

// learn finds out how an exec ended, and puts it on record.
func (e *orphan) learn(ctx context.Context, bundle string) {
	e.exit = ledger.Exit{At: time.Now(), Pid: e.birth.Process.Pid, Status: ledger.UnknownStatus, Unknown: true}
	if e.witness != nil && e.witness.Wait(ctx) == nil {
		if learnt, err := e.witness.Exit(ctx); err == nil {
			e.exit = learnt
		}
	}
	if err := ledger.RecordExec(bundle, e.birth.Exec, e.exit); err != nil {
		log.G(ctx).WithError(err).Warn("record the exit of an exec")
	}
}
