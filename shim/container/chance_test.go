// SPDX-License-Identifier: Apache-2.0

package container

import (
	"slices"
)

// choice is something that can happen in a world now.
type choice struct {
	name string
	do   func() error
}

// execIDs are few, so that they are used again.
var execIDs = [...]string{"a", "b"}

// choices lists what can happen, in an order that depends on the world alone.
func (w *world) choices() []choice {
	var all []choice
	add := func(name string, ev func() event) {
		all = append(all, choice{name, func() error { return w.tell(name, ev()) }})
	}
	w.requests(add)
	if w.creating != nil {
		all = append(all, w.creations()...)
	}
	for _, exec := range append([]string{""}, execIDs[:]...) {
		all = append(all, w.results(exec)...)
	}
	for _, f := range w.freezes {
		for _, err := range []error{nil, errInjected} {
			add(freezeRequest(f).action()+" "+outcomeOf(err), func() event {
				w.freezes = nil
				return frozen{f.pause, err, f.to}
			})
		}
	}
	for _, b := range w.alive {
		add("exit of "+named(b.exec), func() event { return w.die(b) })
	}
	for _, exec := range append([]string{""}, execIDs[:]...) {
		if b := w.body(exec); b != nil && b.exited {
			add("again exit of "+named(exec), func() event { return exited{exec, b.h, b.exit} })
		}
	}
	if w.timers > 0 {
		add("overdue", func() event {
			w.overdue = true
			return execsOverdue{}
		})
	}
	return all
}

func outcomeOf(err error) string {
	if err != nil {
		return "fails"
	}
	return "succeeds"
}

// requests are what a client can ask for at any time.
func (w *world) requests(add func(string, func() event)) {
	for _, exec := range append([]string{""}, execIDs[:]...) {
		add("start "+named(exec), func() event { return startRequest{exec, w.ask("start")} })
		add("delete "+named(exec), func() event { return deleteRequest{exec, w.ask("delete")} })
	}
	for _, exec := range execIDs {
		add("exec "+exec, func() event {
			h := newHandle(Streams{}, nil)
			w.bodies[h] = &body{exec: exec, h: h}
			return execRequest{exec, h, w.ask("exec")}
		})
	}
	add("pause", func() event { return freezeRequest{true, w.ask("pause")} })
	add("resume", func() event { return freezeRequest{false, w.ask("resume")} })
}

// creations are what can come of the create. Its process may end before it has
// returned.
func (w *world) creations() []choice {
	done := func(name string, made created) choice {
		return choice{name, func() error {
			made.to, w.creating, w.restore = w.creating, nil, made.restore
			b := w.body("")
			if made.err == nil && !made.restore && b.pid == 0 {
				w.spawn("")
			}
			made.pid = b.pid
			return w.tell(name, made)
		}}
	}
	all := []choice{
		done("create succeeds", created{}),
		done("create succeeds, shared", created{killOnExit: true}),
		done("create fails", created{err: errInjected}),
	}
	if b := w.body(""); b.pid == 0 {
		all = append(all, done("create succeeds, restore", created{restore: true}),
			choice{"create makes a process", func() error { w.spawn(""); return nil }})
	}
	return all
}

// results are what can come of the operations on a process.
func (w *world) results(exec string) []choice {
	var all []choice
	add := func(name string, do func() error) { all = append(all, choice{name + " of " + named(exec), do}) }
	if s, busy := w.starts[exec]; busy {
		b := w.body(exec)
		makes := exec != "" || s.restore
		if makes && b.pid == 0 {
			add("start makes a process", func() error { w.spawn(exec); return nil })
			add("start without a process fails", func() error { return w.started(exec, 0, errInjected) })
		} else {
			add("start succeeds", func() error { return w.started(exec, b.pid, nil) })
			add("start fails", func() error {
				b.unwanted = exec != ""
				return w.started(exec, b.pid, errInjected)
			})
		}
	}
	if _, busy := w.deletes[exec]; busy {
		for _, err := range []error{nil, errInjected} {
			name := "delete " + outcomeOf(err)
			add(name, func() error {
				delete(w.deletes, exec)
				return w.tell(name+" of "+named(exec), deleted{exec, err})
			})
		}
	}
	if r, busy := w.records[exec]; busy {
		add("record", func() error {
			delete(w.records, exec)
			w.body(exec).recorded = true
			return w.tell("recorded "+named(exec), recorded{exec: r.exec})
		})
	}
	return all
}

func (w *world) started(exec string, pid int, err error) error {
	delete(w.starts, exec)
	return w.tell("start "+outcomeOf(err)+" of "+named(exec), started{exec: exec, pid: pid, err: err})
}

// die ends a process.
func (w *world) die(b *body) event {
	w.alive = slices.DeleteFunc(w.alive, func(a *body) bool { return a == b })
	b.exited = true
	if b.exec == "" {
		w.initExited = true
	}
	return exited{b.exec, b.h, b.exit}
}
