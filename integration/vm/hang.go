// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// monitorPatience is how long qemu may take to answer one command.
	monitorPatience = 10 * time.Second
	// panicPatience is how long the kernel may take to print its tasks and to reboot,
	// which ends the machine.
	panicPatience = time.Minute
)

// confess asks a machine that hangs where it does: qemu's threads, the state of
// its processors and, by an NMI on which the kernel panics (kernelArguments), the
// kernel's tasks, which go to the console. It returns what qemu says; the machine
// has ended then, or is to be killed.
func (m *machine) confess() string {
	var said strings.Builder
	fmt.Fprintf(&said, "qemu's threads:\n%s", threads(m.cmd.Process.Pid))
	q, err := dialMonitor(m.monitor)
	if err != nil {
		fmt.Fprintf(&said, "qemu's monitor: %v\n", err)
		return said.String()
	}
	defer q.conn.Close()
	// Twice: processors that run show it by where they are.
	for range 2 {
		registers := q.ask("human-monitor-command", map[string]any{"command-line": "info registers -a"})
		for line := range strings.Lines(registers) {
			// With the instruction comes whether the processor is halted.
			if strings.HasPrefix(line, "CPU#") || strings.HasPrefix(line, "RIP=") {
				said.WriteString(line)
			}
		}
	}
	fmt.Fprintln(&said, q.ask("inject-nmi", nil))
	select {
	case err := <-m.exited:
		m.exited <- err // for end
	case <-time.After(panicPatience):
		fmt.Fprintf(&said, "the kernel did not panic and end within %v of an NMI\n", panicPatience)
	}
	return said.String()
}

// monitor speaks QMP, qemu's protocol of control.
type monitor struct {
	conn    net.Conn
	answers *json.Decoder
}

func dialMonitor(socket string) (*monitor, error) {
	conn, err := net.DialTimeout("unix", socket, monitorPatience)
	if err != nil {
		return nil, err
	}
	q := &monitor{conn: conn, answers: json.NewDecoder(conn)}
	q.ask("qmp_capabilities", nil)
	return q, nil
}

// ask gives a command and returns its answer as text, or the error as such.
func (q *monitor) ask(command string, arguments map[string]any) string {
	if err := q.conn.SetDeadline(time.Now().Add(monitorPatience)); err != nil {
		return err.Error()
	}
	if arguments == nil {
		arguments = map[string]any{} // null is an error
	}
	if err := json.NewEncoder(q.conn).Encode(map[string]any{"execute": command, "arguments": arguments}); err != nil {
		return fmt.Sprintf("%s: %v", command, err)
	}
	for {
		// Greetings and events have neither.
		var answer struct{ Return, Error json.RawMessage }
		if err := q.answers.Decode(&answer); err != nil {
			return fmt.Sprintf("%s: %v", command, err)
		}
		if answer.Error != nil {
			return fmt.Sprintf("%s: %s", command, answer.Error)
		}
		if answer.Return != nil {
			var text string
			if json.Unmarshal(answer.Return, &text) != nil {
				text = string(answer.Return)
			}
			return fmt.Sprintf("%s: %s", command, strings.ReplaceAll(text, "\r", ""))
		}
	}
}

// threads tells of each thread of a process what proc_pid_stat(5) has, and where in
// the kernel it is.
func threads(pid int) string {
	var found strings.Builder
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		return fmt.Sprintf("none of process %d\n", pid)
	}
	for _, task := range tasks {
		stat, _ := os.ReadFile(filepath.Join(task, "stat"))
		stack, _ := os.ReadFile(filepath.Join(task, "stack"))
		top, _, _ := strings.Cut(string(stack), "\n")
		fmt.Fprintf(&found, "%s in the kernel: %s\n", strings.TrimSpace(string(stat)), top)
	}
	return found.String()
}
