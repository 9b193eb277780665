// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

// slack is what the guest may be late by: it ends a run itself.
const slack = time.Minute

// A machine of which nothing is heard is not the same as one whose tests do not
// come to an end: there is an error for each.
var (
	errSilent  = errors.New("the machine hangs: nothing was heard of it for too long")
	errEndless = errors.New("the machine is alive, and what it does has not ended in its time")
)

// follow has the machine's frames converted until the last one came. The guest
// has a time for each thing it does; it is an error when that runs out, or when
// the machine ends before.
func (s settings) follow(m *machine, c *conversion) error {
	begun, plan := time.Now(), c.plan
	if err := m.frames.SetDeadline(begun.Add(s.boot)); err != nil {
		return err
	}
	conn, err := m.frames.AcceptUnix()
	switch {
	case isTimeout(err):
		return fmt.Errorf("the machine did not start within %v: %w", s.boot, errSilent)
	case err != nil:
		return fmt.Errorf("the machine did not start: %w", err)
	}
	defer conn.Close()
	frames := json.NewDecoder(conn)
	// Of what is under way; and of the next frame.
	deadline, next := begun.Add(s.boot), begun.Add(s.boot)
	for {
		if err := conn.SetReadDeadline(next); err != nil {
			return err
		}
		var f wire.Frame
		if err := frames.Decode(&f); err != nil {
			return brokenOff(err)
		}
		switch now := time.Now(); f.Kind {
		case wire.Up:
			note("the bed %s was up after %v: %.60s", plan.Bed, now.Sub(begun).Round(time.Second), f.Text)
			deadline = now.Add(slack)
		case wire.Alive, wire.Output:
			if now.After(deadline) {
				return errEndless
			}
		case wire.Begin:
			if f.Index < 0 || f.Index >= len(plan.Runs) {
				return fmt.Errorf("the guest began run %d of %d", f.Index, len(plan.Runs))
			}
			deadline = now.Add(time.Duration(plan.Runs[f.Index].Seconds)*time.Second + slack)
		case wire.End:
			deadline = now.Add(slack)
		case wire.Done:
			note("the bed %s was done after %v", plan.Bed, now.Sub(begun).Round(time.Second))
			return nil
		}
		if err := c.frame(f); err != nil {
			return err
		}
		next = time.Now().Add(s.silence)
	}
}

func brokenOff(err error) error {
	switch {
	case isTimeout(err):
		return errSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the machine ended before its tests did")
	}
	return fmt.Errorf("read what the guest reports: %w", err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// conversion makes test2json's output of a machine's frames, of one run after the
// other.
type conversion struct {
	plan      wire.Plan
	goCommand string
	out       io.Writer

	failed bool
	cmd    *exec.Cmd // of the run under way; nil between runs
	input  io.WriteCloser
}

func (c *conversion) frame(f wire.Frame) error {
	switch f.Kind {
	case wire.Begin:
		return c.begin(c.plan.Runs[f.Index])
	case wire.Output:
		if c.cmd == nil {
			return errors.New("the guest sent output of no run")
		}
		if _, err := c.input.Write(f.Data); err != nil {
			return fmt.Errorf("convert the tests' output: %w", err)
		}
	case wire.End:
		return c.end(f.Code, f.Text)
	}
	return nil
}

func (c *conversion) begin(run wire.Run) error {
	cmd := exec.Command(c.goCommand, "tool", "test2json", "-t", "-p", run.Package)
	cmd.Stdout, cmd.Stderr = c.out, os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("convert the tests' output: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("convert the tests' output: %w", err)
	}
	c.cmd, c.input = cmd, input
	return nil
}

func (c *conversion) end(code int, why string) error {
	if c.cmd == nil {
		return nil
	}
	text := ""
	if why != "" {
		text = "\n" + why
	}
	// A binary that died has not said so in words that test2json knows.
	if code != 0 {
		c.failed = true
		text += "\nFAIL\n"
	}
	_, err := io.WriteString(c.input, text)
	err = errors.Join(err, c.input.Close(), c.cmd.Wait())
	c.cmd, c.input = nil, nil
	if err != nil {
		return fmt.Errorf("convert the tests' output: %w", err)
	}
	return nil
}

// breakOff ends the run under way as failed. Between runs it is the bed itself
// that has: a machine that does not boot is counted, too.
func (c *conversion) breakOff(why error) error {
	if c.cmd == nil {
		if err := c.begin(wire.Run{Package: "vm/" + c.plan.Bed}); err != nil {
			return err
		}
	}
	return c.end(1, why.Error())
}
