// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/runtime"
	"google.golang.org/protobuf/types/known/anypb"
)

// answerWithin is how long a task of a listing may take to answer. It is also
// containerd's limit for a state; for statistics containerd has none.
const answerWithin = 2 * time.Second

// listing is what one call of Tasks returned. containerd asks its tasks one after
// the other, so that each shim that is stopped or hangs would delay the rest. Here,
// as soon as one has not answered in time, all that are still to be asked are asked
// at once: a list takes twice the limit at most, however many are stuck.
type listing struct {
	tasks  []*listed
	within time.Duration
	states round[runtime.State]
	stats  round[*anypb.Any]
}

// listed is a task of a listing.
type listed struct {
	runtime.Task
	of    *listing
	index int
}

func list(tasks []runtime.Task, within time.Duration) []runtime.Task {
	l := &listing{within: within, tasks: make([]*listed, len(tasks))}
	out := make([]runtime.Task, len(tasks))
	for i, t := range tasks {
		l.tasks[i] = &listed{Task: t, of: l, index: i}
		out[i] = l.tasks[i]
	}
	return out
}

// State returns the state of the task's first process.
func (t *listed) State(ctx context.Context) (runtime.State, error) {
	return ask(ctx, &t.of.states, t, runtime.Task.State)
}

// Stats returns the task's statistics.
func (t *listed) Stats(ctx context.Context) (*anypb.Any, error) {
	return ask(ctx, &t.of.stats, t, runtime.Task.Stats)
}

// round is one question to the tasks of a listing.
type round[T any] struct {
	mu    sync.Mutex
	early map[int]chan answer[T] // asked before their turn, each with room for its answer; guarded by mu
	begun bool                   // guarded by mu
}

type answer[T any] struct {
	value T
	err   error
}

// ask puts the question to a task, or takes the answer to it that was asked for
// before its turn, which is good once.
func ask[T any](ctx context.Context, r *round[T], t *listed, question func(runtime.Task, context.Context) (T, error)) (T, error) {
	r.mu.Lock()
	early, asked := r.early[t.index]
	delete(r.early, t.index)
	r.mu.Unlock()
	if asked {
		select {
		case a := <-early:
			return a.value, a.err
		case <-ctx.Done():
			var none T
			return none, fmt.Errorf("task %s: no answer: %w", t.ID(), ctx.Err())
		}
	}
	value, late, err := within(ctx, t, question)
	if late {
		r.askRest(ctx, t, question)
	}
	return value, err
}

// within asks one task and says whether it was late.
func within[T any](ctx context.Context, t *listed, question func(runtime.Task, context.Context) (T, error)) (value T, late bool, err error) {
	asking, cancel := context.WithTimeout(ctx, t.of.within)
	defer cancel()
	value, err = question(t.Task, asking)
	if err != nil && asking.Err() != nil {
		// The caller's own limit may be the same, and be met first.
		return value, context.Cause(ctx) != context.Canceled, fmt.Errorf("task %s: no answer within %s: %w", t.ID(), t.of.within, asking.Err())
	}
	return value, false, err
}

// askRest asks the tasks after one that was late, all at once, and only once: what
// comes of it is kept for their turn. They are no longer bound by the turn of the
// late one, but by its caller's values and by the listing's limit.
func (r *round[T]) askRest(ctx context.Context, late *listed, question func(runtime.Task, context.Context) (T, error)) {
	rest := late.of.tasks[late.index+1:]
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun {
		return
	}
	r.begun = true
	r.early = make(map[int]chan answer[T], len(rest))
	for _, t := range rest {
		out := make(chan answer[T], 1)
		r.early[t.index] = out
		go func() {
			value, _, err := within(context.WithoutCancel(ctx), t, question)
			out <- answer[T]{value, err}
		}()
	}
}
