// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/containerd/errdefs"
)

// maxMessage bounds a runtime's message within an error, in bytes.
const maxMessage = 4 << 10

// Error is a failure that the runtime reported, or its failure to run at all. Its
// text is "OCI runtime <op> failed: <message>", which users and dockerd know from
// the runc shim. It unwraps to an errdefs class when the message has one, and to
// the *exec.ExitError or *exec.Error behind it.
type Error struct {
	// Op is the runtime's command: create, start, ….
	Op string
	// Message is the last error of the runtime's log, else its stderr, else how
	// the process ended.
	Message string

	class error
	cause error
}

func (e *Error) Error() string {
	return fmt.Sprintf("OCI runtime %s failed: %s", e.Op, e.Message)
}

// Unwrap gives the class and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.class, e.cause} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// newError puts together what a failed call left behind.
func newError(binary, op, logged, stderr string, cause error) *Error {
	e := &Error{Op: op, cause: cause}
	var exit *exec.ExitError
	ran := errors.As(cause, &exit)
	switch {
	case logged != "":
		e.Message = logged
	case !ran:
		e.Message = cause.Error() // it could not be started
	case strings.TrimSpace(stderr) != "":
		e.Message = strings.TrimSpace(stderr)
		if exit.ExitCode() < 0 {
			e.Message += " (" + exit.String() + ")"
		}
	default:
		e.Message = fmt.Sprintf("%s gave no reason (%s)", binary, exit)
	}
	if len(e.Message) > maxMessage {
		e.Message = strings.ToValidUTF8(e.Message[:maxMessage], "") + "…"
	}
	if ran {
		e.class = classify(op, e.Message)
		e.Message = explain(e.Message)
	}
	return e
}

// A rule gives a class to messages that contain all of its words (lower case)
// when the call was one of ops ("" is any but create and restore, whose
// messages may quote anything of the spec).
type rule struct {
	ops   string
	words []string
	class error
}

// rules are the messages of runc 1.0–1.5, crun and youki. The first match wins.
var rules = []rule{
	{"create restore", []string{"container", "already exists"}, errdefs.ErrAlreadyExists},
	{"create restore", []string{"container with given id already exists"}, errdefs.ErrAlreadyExists},

	{"", []string{"unknown command"}, errdefs.ErrNotImplemented},         // crun
	{"", []string{"no help topic for"}, errdefs.ErrNotImplemented},       // runc
	{"", []string{"unrecognized subcommand"}, errdefs.ErrNotImplemented}, // youki
	{"restore", []string{"unknown command"}, errdefs.ErrNotImplemented},

	{"", []string{"container", "does not exist"}, errdefs.ErrNotFound},                  // runc, youki
	{"", []string{"error opening file", "/status`: no such file"}, errdefs.ErrNotFound}, // crun
	{"delete", []string{"cannot open directory", "no such file"}, errdefs.ErrNotFound},  // crun

	{"kill", []string{"process already finished"}, errdefs.ErrNotFound},
	{"kill", []string{"not running"}, errdefs.ErrNotFound},
	{"kill", []string{"no such process"}, errdefs.ErrNotFound},
	{"kill", []string{"stopped"}, errdefs.ErrNotFound}, // youki: …could not be killed because it was Stopped

	{"delete", []string{"not stopped"}, errdefs.ErrFailedPrecondition},
	{"delete", []string{"is not in", "stopped"}, errdefs.ErrFailedPrecondition}, // crun
	{"exec", []string{"stopped container"}, errdefs.ErrFailedPrecondition},
	{"exec start pause resume update ps checkpoint", []string{"not running"}, errdefs.ErrFailedPrecondition},
	{"pause resume", []string{"not paused"}, errdefs.ErrFailedPrecondition},
	{"start", []string{"in stopped state"}, errdefs.ErrFailedPrecondition},
	{"start", []string{"cannot start"}, errdefs.ErrFailedPrecondition},
}

// classify finds the errdefs class of a runtime's message; nil when it has none.
func classify(op, message string) error {
	lower := strings.ToLower(message)
	for _, r := range rules {
		if r.ops == "" && (op == "create" || op == "restore") {
			continue
		}
		if r.ops != "" && !containsWord(r.ops, op) {
			continue
		}
		all := true
		for _, w := range r.words {
			all = all && strings.Contains(lower, w)
		}
		if all {
			return r.class
		}
	}
	return nil
}

func containsWord(list, word string) bool {
	for w := range strings.FieldsSeq(list) {
		if w == word {
			return true
		}
	}
	return false
}
