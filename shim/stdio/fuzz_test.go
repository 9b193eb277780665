// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// FuzzState reads garbage as a State: it is refused in words or it is true, and
// descriptors stay what they are.
func FuzzState(f *testing.F) {
	i, good := parkedPipes(f)
	plain := throughJSON(f, good)
	plain.Stdin, plain.Stdout, plain.Stderr = "/in", "/out", "/out"
	for n := range plain.Descriptors {
		plain.Descriptors[n] = DescriptorState{Slot: plain.Descriptors[n].Slot, FD: n}
	}
	draining := throughJSON(f, plain)
	draining.Outputs[0].Pending, draining.Outputs[0].Taken = []byte("x"), 1
	draining.Finish = &FinishState{Marks: []MarkState{{Stream: "stdout", Delivered: 1}, {Stream: "stderr"}}}
	var seeds [][]byte
	for _, s := range []State{plain, draining, fullState(), {}} {
		text, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, text)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var s State
		if json.Unmarshal(text, &s) != nil {
			return
		}
		for n, d := range s.Descriptors {
			if d.Device == 0 && d.Inode == 0 { // the right one, whose number no input can know
				s.Descriptors[n] = *slotOf(&good, d.Slot)
			}
		}
		o := i.opts
		o.Dir, o.Children = t.TempDir(), adopter{}
		next, err := Resume(s, func(fd int) (*os.File, error) {
			for _, d := range good.Descriptors {
				if d.FD == fd {
					return dupFile(fd)
				}
			}
			return nil, errors.New("no such descriptor")
		}, o)
		if err != nil {
			if next != nil || err.Error() == "" || bytes.Equal(text, seeds[0]) {
				t.Errorf("%v with an IO", err)
			}
			return
		}
		if again := mustPark(t, next); !sameButNumbers(plainly(again), plainly(s)) {
			t.Errorf("resumed from %+v\n and saved %+v", s, again)
		}
		if err := next.Abandon(); err != nil {
			t.Error(err)
		}
		if again := mustPark(t, i); !sameButNumbers(again, good) {
			t.Errorf("the descriptors were %+v\n and are %+v", good, again)
		}
	})
}

// plainly leaves out what means nothing: an order, and how something that has
// ended came to it.
func plainly(s State) State {
	slices.SortFunc(s.Descriptors, func(a, b DescriptorState) int { return strings.Compare(a.Slot, b.Slot) })
	flows := []*FlowState{}
	if s.Input != nil {
		flows = append(flows, &s.Input.FlowState)
	}
	for n := range s.Outputs {
		flows = append(flows, &s.Outputs[n].FlowState)
	}
	for _, f := range flows {
		if f.Ended {
			f.SourceEnded, f.Failed, f.GivenUp = false, false, false
		}
	}
	return s
}
