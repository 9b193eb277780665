// SPDX-License-Identifier: Apache-2.0

package config

import "time"

// Deadlines bound what the shim waits for while it serves one request. A zero
// field means its default.
type Deadlines struct {
	// Create bounds one "create" (or "restore") of the OCI runtime.
	Create time.Duration
	// Abandon is how long a create goes on whose client has gone. An OCI runtime
	// that is killed leaves what no delete finds, so it may finish if it can.
	Abandon time.Duration
	// Start bounds one "start" of the OCI runtime.
	Start time.Duration
	// Exec bounds one "exec --detach" of the OCI runtime.
	Exec time.Duration
	// Control bounds the short operations: kill, pause, resume, update, ps,
	// state, features; and the shim's own ways to do the same through the cgroup.
	Control time.Duration
	// Delete bounds one "delete" of the OCI runtime, poststop hooks included.
	Delete time.Duration
	// Checkpoint bounds one "checkpoint"; memory is written to disk meanwhile.
	Checkpoint time.Duration
	// Terminate is how long an OCI runtime that has run out of time has to end
	// after SIGTERM, before it and all that it has started get SIGKILL.
	Terminate time.Duration
	// Mount bounds the mounting of a root filesystem, and its unmounting.
	Mount time.Duration
	// Console bounds the wait for the runtime to send a terminal.
	Console time.Duration
	// Open bounds the opening of a client's FIFO, which waits for its peer, and
	// of a log file, which waits for its file system.
	Open time.Duration
	// Logger bounds the ready handshake of a binary logger, and its end after
	// SIGTERM.
	Logger time.Duration
	// Record bounds the writing of an exit to disk; it is told all the same then.
	Record time.Duration
	// Bus bounds what the shim asks systemd for over D-Bus: a scope for itself and,
	// when an OCI runtime that asks systemd takes as long as that, a sign of life.
	Bus time.Duration
	// Drain bounds the copying of output that is left after an exit, and how long
	// an exit waits for an operation on its process, or for the exits of execs.
	Drain time.Duration
	// Linger is how much longer, once all that was written before the exit has
	// been copied, a process that the exited one has left may hold its output
	// before the client's stream is ended.
	Linger time.Duration
}

// DefaultDeadlines are generous: they end what is stuck, not what is slow.
func DefaultDeadlines() Deadlines {
	return Deadlines{
		Create:     2 * time.Minute,
		Abandon:    3 * time.Second,
		Start:      time.Minute,
		Exec:       time.Minute,
		Control:    30 * time.Second,
		Delete:     time.Minute,
		Checkpoint: 10 * time.Minute,
		Terminate:  time.Second,
		Mount:      time.Minute,
		Console:    30 * time.Second,
		Open:       30 * time.Second,
		Logger:     12 * time.Second,
		Record:     10 * time.Second,
		Bus:        20 * time.Second,
		Drain:      10 * time.Second,
		Linger:     2 * time.Second,
	}
}

// WithDefaults sets every zero field to its default.
func (d Deadlines) WithDefaults() Deadlines {
	def := DefaultDeadlines()
	for i, f := range d.fields() {
		if *f.value == 0 {
			*f.value = *def.fields()[i].value
		}
	}
	return d
}

// field is one deadline by its name in settings.
type field struct {
	name  string
	value *time.Duration
}

// fields lists the deadlines in the order of the type.
func (d *Deadlines) fields() []field {
	return []field{
		{"create", &d.Create}, {"abandon", &d.Abandon}, {"start", &d.Start}, {"exec", &d.Exec},
		{"control", &d.Control}, {"delete", &d.Delete}, {"checkpoint", &d.Checkpoint}, {"terminate", &d.Terminate},
		{"mount", &d.Mount}, {"console", &d.Console}, {"open", &d.Open}, {"logger", &d.Logger},
		{"record", &d.Record}, {"bus", &d.Bus}, {"drain", &d.Drain}, {"linger", &d.Linger},
	}
}
