// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/runtime"
	"google.golang.org/protobuf/types/known/anypb"
)

// slowTask answers after a time, or never.
type slowTask struct {
	runtime.Task
	id    string
	takes time.Duration
	err   error
	asked atomic.Int32
}

func (s *slowTask) ID() string { return s.id }

func (s *slowTask) wait(ctx context.Context) error {
	s.asked.Add(1)
	select {
	case <-time.After(s.takes):
		return s.err
	case <-ctx.Done():
		return errors.New("flattened, as containerd's own") // its class is lost
	}
}

func (s *slowTask) State(ctx context.Context) (runtime.State, error) {
	return runtime.State{Pid: 7}, s.wait(ctx)
}

func (s *slowTask) Stats(ctx context.Context) (*anypb.Any, error) {
	return &anypb.Any{TypeUrl: s.id}, s.wait(ctx)
}

const never = time.Hour

func slowTasks(takes ...time.Duration) (all []*slowTask, tasks []runtime.Task) {
	for i, d := range takes {
		s := &slowTask{id: fmt.Sprint("t", i), takes: d}
		all, tasks = append(all, s), append(tasks, s)
	}
	return all, tasks
}

// TestListingWithStuckTasks: each that answers is listed, and together they take
// twice the limit at most.
func TestListingWithStuckTasks(t *testing.T) {
	const limit = 200 * time.Millisecond
	takes := []time.Duration{0, never}
	for range 40 {
		takes = append(takes, never, 0)
	}
	for name, question := range map[string]func(context.Context, runtime.Task) error{
		"state": func(ctx context.Context, task runtime.Task) error {
			s, err := task.State(ctx)
			if err == nil && s.Pid != 7 {
				t.Errorf("%s: %+v", task.ID(), s)
			}
			return err
		},
		"stats": func(ctx context.Context, task runtime.Task) error {
			s, err := task.Stats(ctx)
			if err == nil && s.GetTypeUrl() != task.ID() {
				t.Errorf("%s: the statistics of %s", task.ID(), s.GetTypeUrl())
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, tasks := slowTasks(takes...)
			begun := time.Now()
			for i, task := range list(tasks, limit) {
				ctx, cancel := context.WithTimeout(t.Context(), limit) // as containerd's, for a state
				err := question(ctx, task)
				cancel()
				switch {
				case takes[i] == 0 && err != nil:
					t.Errorf("%s: %v", task.ID(), err)
				case takes[i] != 0 && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("%s: %v, want the deadline", task.ID(), err)
				}
			}
			if took := time.Since(begun); took > 10*limit {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// Without a late one each is asked in its turn, and none that is not asked for.
func TestListingAsksWhatIsAskedFor(t *testing.T) {
	all, tasks := slowTasks(0, 0, 0)
	listed := list(tasks, time.Second)
	for range 2 {
		if _, err := listed[1].State(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for i, want := range []int32{0, 2, 0} {
		if got := all[i].asked.Load(); got != want {
			t.Errorf("task %d was asked %d times, want %d", i, got, want)
		}
	}
}

// An early answer is good once: who asks again gets a new one.
func TestEarlyAnswerIsGoodOnce(t *testing.T) {
	all, tasks := slowTasks(never, 0)
	all[1].err = errors.New("its own")
	listed := list(tasks, 50*time.Millisecond)
	if _, err := listed[0].State(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	for i := range 2 {
		if _, err := listed[1].State(t.Context()); !errors.Is(err, all[1].err) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if got := all[1].asked.Load(); got != 2 {
		t.Errorf("asked %d times, want 2", got)
	}
}

// A caller that gives up says nothing of the task.
func TestListingCanceled(t *testing.T) {
	all, tasks := slowTasks(never, 0)
	listed := list(tasks, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := listed[0].State(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := all[1].asked.Load(); got != 0 {
		t.Error("others were asked")
	}
}
