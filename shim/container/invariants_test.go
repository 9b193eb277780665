// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"

	"github.com/quoin-io/quoin/shim/reaper"
)

// check tells what is wrong with an effect, by the guarantees in the machine's
// comment, and does it to the world.
func (w *world) check(e effect) error {
	switch e := e.(type) {
	case answer:
		if !w.open[e.to] {
			return fmt.Errorf("%s was answered already", w.calls[e.to])
		}
		delete(w.open, e.to)
	case startOp:
		return w.checkStart(e)
	case deleteOp:
		if _, busy := w.deletes[e.exec]; busy {
			return errors.New("a delete is under way")
		}
		if b := w.body(e.exec); b.exited && !b.told && !b.unwanted {
			return errors.New("it has an exit that was not told")
		}
		w.deletes[e.exec] = e
	case freezeOp:
		if len(w.freezes) > 0 {
			return errors.New("a pause or resume is under way")
		}
		w.freezes = append(w.freezes, e)
	case record:
		return w.checkRecord(e)
	case announce:
		return w.checkAnnounce(e)
	case publishExit:
		return w.checkTold(e)
	case publishStart:
		b := w.body(e.exec)
		if b.started || b.told {
			return errors.New("its start was told, or its exit is")
		}
		if e.pid != b.pid {
			return fmt.Errorf("pid %d, it is %d", e.pid, b.pid)
		}
		b.started = true
	case publishExecAdded:
		if w.initExited {
			return errors.New("the init has exited")
		}
	case killInit:
		if w.body("").pid == 0 {
			return errors.New("there is no init")
		}
	case watchExecs:
		w.timers++
		if w.timers > 1 {
			return errors.New("the wait is bounded twice")
		}
	case watchStart:
		_, busy := w.starts[""]
		switch {
		case e.h != w.m.init.h || w.restore:
			return errors.New("only a start of the init waits for nothing but the OCI runtime")
		case !busy || !w.initExited:
			return errors.New("no start is under way, or the init lives")
		case w.hurried:
			return errors.New("the wait is bounded twice")
		}
		w.hurried = true
	case publishFreeze:
		if w.initExited {
			return errors.New("the init has exited: nothing is frozen")
		}
	case finish:
		if b := w.bodies[e.h]; !b.told {
			return errors.New("its exit was not told")
		}
	case retire:
		w.retired = true
	}
	return nil
}

func (w *world) checkStart(e startOp) error {
	b := w.body(e.exec)
	switch {
	case e.exec != "" && w.initExited:
		return errors.New("the init has exited")
	case e.exec != "" && w.m.freezer != thawed:
		return errors.New("the container is frozen")
	case b.started || b.exited:
		return errors.New("it was started before, or has exited")
	case e.restore != (e.exec == "" && w.restore):
		return errors.New("it is restored, or should be")
	}
	if _, busy := w.starts[e.exec]; busy {
		return errors.New("a start is under way")
	}
	w.starts[e.exec] = e
	return nil
}

func (w *world) checkRecord(e record) error {
	b := w.body(e.exec)
	switch {
	case !b.exited || b.unwanted:
		return errors.New("it has not exited")
	case b.asked:
		return errors.New("it was recorded before")
	case e.exit != b.exit, e.pid != b.pid, e.pid == 0:
		return fmt.Errorf("pid %d %s, it is pid %d %s", e.pid, ended(e.exit), b.pid, ended(b.exit))
	case e.exec == "" && !w.overdue && w.execsUntold() != "":
		return fmt.Errorf("exec %s is alive", w.execsUntold())
	}
	if _, busy := w.starts[e.exec]; busy {
		return errors.New("its start is under way")
	}
	b.asked = true
	w.records[e.exec] = e
	return nil
}

// execsUntold is an exec that has been started and whose exit was not told.
func (w *world) execsUntold() string {
	for id := range w.m.execs {
		_, starting := w.starts[id]
		if b := w.body(id); starting || b.started && !b.told {
			return id
		}
	}
	return ""
}

func (w *world) checkAnnounce(e announce) error {
	b := w.bodies[e.h]
	switch {
	case b.exited && !b.unwanted && !b.recorded:
		return errors.New("its exit is not on record")
	case b.recorded && e.exit != b.exit:
		return fmt.Errorf("%s, it is %s", ended(e.exit), ended(b.exit))
	case !b.recorded && e.exit.Status != neverRan:
		return fmt.Errorf("%s is made up: it never ran", ended(e.exit))
	case !b.recorded && b.started:
		return errors.New("it runs")
	case b.announced != nil && b.announced.Status != e.exit.Status:
		return errors.New("it was announced with another status")
	}
	b.announced = &reaper.Exit{Status: e.exit.Status}
	return nil
}

func (w *world) checkTold(e publishExit) error {
	b := w.body(e.exec)
	switch {
	case !b.recorded:
		return errors.New("it is not on record")
	case b.announced == nil:
		return errors.New("whoever waits was not told first")
	case b.told:
		return errors.New("it was told before")
	case e.exit != b.exit, e.pid != b.pid:
		return fmt.Errorf("pid %d %s, it is pid %d %s", e.pid, ended(e.exit), b.pid, ended(b.exit))
	case e.exec != "" && !b.started:
		return errors.New("its start was not told")
	case e.exec != "" && w.body("").told && !w.overdue:
		return errors.New("the exit of the init was told before")
	}
	b.told = true
	return nil
}
