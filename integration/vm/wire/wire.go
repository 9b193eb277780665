// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	// CargoDir is where the guest finds what the host sent: the plan, the test
	// binaries and the product.
	CargoDir = "/opt/quoin"
	// BedArgument is what precedes the bed's name on the kernel's command line.
	BedArgument = "quoin.bed="
	// Port is the pattern of the virtio port that carries the frames: the only
	// one of the machine, whose first number depends on its other devices.
	Port = "/dev/vport*p1"
)

// PlanName is the file in the cargo with the plan of a bed.
func PlanName(bed string) string { return "plan-" + bed + ".json" }

// Bed returns the bed's name that a kernel's command line carries.
func Bed(commandLine string) (string, error) {
	for _, argument := range strings.Fields(commandLine) {
		if bed, ok := strings.CutPrefix(argument, BedArgument); ok && bed != "" {
			return bed, nil
		}
	}
	return "", fmt.Errorf("the kernel's command line names no bed (%sNAME): %s", BedArgument, commandLine)
}

// Plan says what the guest has to run.
type Plan struct {
	// Bed is the name of the bed; tests read it from QUOIN_VM_BED.
	Bed string `json:"bed"`
	// Runs are done in order, each to its end.
	Runs []Run `json:"runs"`
}

// Run is one run of one test binary.
type Run struct {
	// Package is the import path, for the report.
	Package string `json:"package"`
	// Binary is the file below the cargo's tests directory.
	Binary string `json:"binary"`
	// Args are for the binary.
	Args []string `json:"args"`
	// Seconds bound the run; the binary is killed after them.
	Seconds int `json:"seconds"`
}

// ReadPlan reads the plan from a file.
func ReadPlan(path string) (Plan, error) {
	var p Plan
	text, err := os.ReadFile(path)
	if err != nil {
		return p, fmt.Errorf("read the plan: %w", err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("read the plan %s: %w", path, err)
	}
	return p, nil
}

// Kind is what a frame tells.
type Kind string

// The frames of a machine, in this order: Up, then for each run Begin, Output
// as often as there is some, End; and Done. Alive comes all the time.
const (
	// Up says that the guest runs its first own program. Text names the kernel.
	Up Kind = "up"
	// Alive says that the guest's programs get to run. It comes every AliveEvery.
	Alive Kind = "alive"
	// Begin says that run Index starts.
	Begin Kind = "begin"
	// Output carries what run Index wrote.
	Output Kind = "output"
	// End says that run Index ended with Code; Text says why if not by itself.
	End Kind = "end"
	// Done says that no more frames come and the guest powers off.
	Done Kind = "done"
)

// AliveEvery is the time between two frames of the kind Alive.
const AliveEvery = 5 * time.Second

// Frame is one message of the guest.
type Frame struct {
	Kind  Kind   `json:"kind"`
	Index int    `json:"index,omitempty"`
	Data  []byte `json:"data,omitempty"`
	Code  int    `json:"code,omitempty"`
	Text  string `json:"text,omitempty"`
}

// Write writes a frame.
func Write(w io.Writer, f Frame) error {
	line, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode a frame: %w", err)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write a frame: %w", err)
	}
	return nil
}
