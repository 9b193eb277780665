// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	gometrics "github.com/docker/go-metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/plugins/runtime/metrics"
	"github.com/quoin-io/quoin/shim/cgroup"
)

// fakeTasks is a task runtime that answers with err, and remembers what it was
// asked.
type fakeTasks struct {
	err   error
	asked []string
}

func (f *fakeTasks) ID() string { return "fake" }

func (f *fakeTasks) Create(_ context.Context, id string, _ runtime.CreateOpts) (runtime.Task, error) {
	f.asked = append(f.asked, "create "+id)
	return nil, f.err
}

func (f *fakeTasks) Get(_ context.Context, id string) (runtime.Task, error) {
	f.asked = append(f.asked, "get "+id)
	return nil, f.err
}

func (f *fakeTasks) Tasks(context.Context, bool) ([]runtime.Task, error) {
	f.asked = append(f.asked, "tasks")
	return nil, f.err
}

func (f *fakeTasks) Delete(_ context.Context, id string) (*runtime.Exit, error) {
	f.asked = append(f.asked, "delete "+id)
	return &runtime.Exit{Status: 7}, f.err
}

func (*fakeTasks) PluginInfo(_ context.Context, request any) (any, error) {
	return fmt.Sprint("about ", request), nil
}

type harness struct {
	*Runtime
	tasks *fakeTasks
	reg   *prometheus.Registry
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	namespace := gometrics.NewNamespace("quoin", "runtime", nil)
	h := &harness{tasks: &fakeTasks{}, reg: prometheus.NewRegistry()}
	state := t.TempDir()
	obituary, err := newObituary(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	h.Runtime = newRuntime(h.tasks, &owner{
		counters: newCounters(namespace), obituary: obituary,
		shims: metrics.New(metrics.Options{State: state, Patience: time.Second}),
	}, &cgroup.Node{Driver: cgroup.Cgroupfs})
	h.reg.MustRegister(namespace)
	return h
}

// counts returns what a scrape would see, as "name runtime outcome" to value.
func (h *harness) counts(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			got[family.GetName()+" "+labels["runtime"]+" "+labels["outcome"]] = m.GetCounter().GetValue()
		}
	}
	return got
}

func opts(name string) runtime.CreateOpts { return runtime.CreateOpts{Runtime: name} }

func TestCountsByTypeAndOutcome(t *testing.T) {
	h := newHarness(t)
	ctx := namespaces.WithNamespace(t.Context(), "a")
	other := namespaces.WithNamespace(t.Context(), "b")

	_, _ = h.Create(ctx, "1", opts(config.RuntimeType))
	_, _ = h.Create(other, "1", opts(runcType))
	_, _ = h.Create(ctx, "2", opts("/some/path/shim"))
	_, _ = h.Create(ctx, "3", opts("made.up.by.a.client"))
	h.tasks.err = fmt.Errorf("no: %w", errdefs.ErrAlreadyExists)
	_, _ = h.Create(ctx, "1", opts(config.RuntimeType))
	h.tasks.err = errdefs.ErrFailedPrecondition
	_, _ = h.Delete(ctx, "1")
	h.tasks.err = nil
	exit, err := h.Delete(ctx, "1")
	if err != nil || exit.Status != 7 {
		t.Errorf("delete answered %+v, %v; want the inner runtime's status 7", exit, err)
	}
	_, _ = h.Delete(other, "1")
	_, _ = h.Delete(ctx, "not-seen")

	want := map[string]float64{
		"quoin_runtime_creates_total io.containerd.quoin.v1 ok":                  1,
		"quoin_runtime_creates_total io.containerd.quoin.v1 already_exists":      1,
		"quoin_runtime_creates_total io.containerd.runc.v2 ok":                   1,
		"quoin_runtime_creates_total other ok":                                   2,
		"quoin_runtime_deletes_total io.containerd.quoin.v1 failed_precondition": 1,
		"quoin_runtime_deletes_total io.containerd.quoin.v1 ok":                  1,
		"quoin_runtime_deletes_total io.containerd.runc.v2 ok":                   1,
		"quoin_runtime_deletes_total unknown ok":                                 1,
	}
	if diff := cmp.Diff(want, h.counts(t)); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

func TestForgetsTasksThatAreGone(t *testing.T) {
	h := newHarness(t)
	ctx := namespaces.WithNamespace(t.Context(), "a")
	remembered := func() (n int) {
		h.types.Range(func(any, any) bool { n++; return true })
		return n
	}
	_, _ = h.Create(ctx, "deleted", opts(config.RuntimeType))
	_, _ = h.Create(ctx, "crashed", opts(config.RuntimeType))
	_, _ = h.Create(ctx, "gone", opts(config.RuntimeType))
	h.tasks.err = errors.New("no")
	_, _ = h.Create(ctx, "failed", opts(config.RuntimeType))
	if n := remembered(); n != 3 {
		t.Errorf("%d tasks remembered, want 3", n)
	}
	_, _ = h.Delete(ctx, "deleted") // fails: still there
	if n := remembered(); n != 3 {
		t.Errorf("%d tasks remembered after a failed delete, want 3", n)
	}
	h.tasks.err = errdefs.ErrNotFound
	_, _ = h.Get(ctx, "crashed")
	_, _ = h.Delete(ctx, "gone")
	h.tasks.err = nil
	_, _ = h.Delete(ctx, "deleted")
	if n := remembered(); n != 0 {
		t.Errorf("%d tasks remembered after all are gone, want 0", n)
	}
}

func TestPassesThrough(t *testing.T) {
	h := newHarness(t)
	h.tasks.err = errors.New("inner")
	ctx := t.Context()
	_, createErr := h.Create(ctx, "x", opts("y"))
	_, getErr := h.Get(ctx, "x")
	_, tasksErr := h.Tasks(ctx, true)
	_, deleteErr := h.Delete(ctx, "x")
	for _, err := range []error{createErr, getErr, tasksErr, deleteErr} {
		if err != h.tasks.err {
			t.Errorf("error %v, want the inner one as it is", err)
		}
	}
	if diff := cmp.Diff([]string{"create x", "get x", "tasks", "delete x"}, h.tasks.asked); diff != "" {
		t.Errorf("inner calls (-want +got):\n%s", diff)
	}
	if h.ID() != "fake" {
		t.Errorf("ID %q, want the inner one", h.ID())
	}
}

func TestPluginInfo(t *testing.T) {
	h := newHarness(t)
	if info, err := h.PluginInfo(t.Context(), "x"); err != nil || info != "about x" {
		t.Errorf("%v, %v; want the inner answer", info, err)
	}
}

func TestOutcome(t *testing.T) {
	for want, err := range map[string]error{
		"ok":                  nil,
		"error":               errors.New("x"),
		"not_found":           errdefs.ErrNotFound,
		"canceled":            context.Canceled,
		"deadline_exceeded":   fmt.Errorf("x: %w", context.DeadlineExceeded),
		"unavailable":         errdefs.ErrUnavailable,
		"invalid_argument":    errdefs.ErrInvalidArgument,
		"failed_precondition": errdefs.ErrFailedPrecondition,
		"not_implemented":     errdefs.ErrNotImplemented,
	} {
		if got := outcome(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
