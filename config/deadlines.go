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
	// state, features.
	Control time.Duration
	// Delete bounds one "delete" of the OCI runtime.
	Delete time.Duration
	// Checkpoint bounds one "checkpoint"; memory is written to disk meanwhile.
	Checkpoint time.Duration
	// Console bounds the wait for the runtime to send a terminal.
	Console time.Duration
	// Open bounds the opening of a client's FIFO, which waits for its peer.
	Open time.Duration
	// Logger bounds the ready handshake of a binary logger, and its end after
	// SIGTERM.
	Logger time.Duration
	// Drain bounds the copying of output that is left after an exit.
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
		Console:    30 * time.Second,
		Open:       30 * time.Second,
		Logger:     12 * time.Second,
		Drain:      10 * time.Second,
		Linger:     2 * time.Second,
	}
}
