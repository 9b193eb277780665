// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	metrics "github.com/docker/go-metrics"

	"github.com/quoin-io/quoin/config"
)

// runcType is the type of containerd's reference shim.
const runcType = "io.containerd.runc.v2"

// counters count operations on tasks. Labels have few values, whatever names
// clients make up: a type that is neither Quoin's nor runc's is "other", and a
// task whose creation this daemon did not see has type "unknown".
type counters struct {
	creates metrics.LabeledCounter // runtime, outcome
	deletes metrics.LabeledCounter // runtime, outcome
	shapes  metrics.LabeledCounter // shape, used
}

func newCounters(namespace *metrics.Namespace) *counters {
	return &counters{
		creates: namespace.NewLabeledCounter("creates", "Tasks that were asked for, by runtime type and outcome", "runtime", "outcome"),
		deletes: namespace.NewLabeledCounter("deletes", "Deletions of tasks, by runtime type and outcome", "runtime", "outcome"),
		shapes:  namespace.NewLabeledCounter("cgroup_mismatches", "Tasks whose cgroupsPath is written for another cgroup driver than the node's, by its shape and the driver that is used", "shape", "used"),
	}
}

// typeLabel bounds the values of the label "runtime".
func typeLabel(name string) string {
	switch name {
	case config.RuntimeType, runcType, unknownType:
		return name
	}
	return "other"
}

// outcomes maps the classes of errors to values of the label "outcome"; the
// first that matches counts.
var outcomes = []struct {
	is   func(error) bool
	name string
}{
	{errdefs.IsAlreadyExists, "already_exists"},
	{errdefs.IsNotFound, "not_found"},
	{errdefs.IsInvalidArgument, "invalid_argument"},
	{errdefs.IsFailedPrecondition, "failed_precondition"},
	{errdefs.IsNotImplemented, "not_implemented"},
	{errdefs.IsUnavailable, "unavailable"},
	{func(err error) bool { return errors.Is(err, context.Canceled) || errdefs.IsCanceled(err) }, "canceled"},
	{func(err error) bool {
		return errors.Is(err, context.DeadlineExceeded) || errdefs.IsDeadlineExceeded(err)
	}, "deadline_exceeded"},
}

// outcome names how an operation ended: "ok", the error's class, or "error".
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	for _, o := range outcomes {
		if o.is(err) {
			return o.name
		}
	}
	return "error"
}
