// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func failpointPath(dir, step string) string { return filepath.Join(dir, "fail-"+step) }

// takeFailpoint is the step's failpoint, if it is to happen this time. Each time is
// used up by making a file that nobody else can make again.
func takeFailpoint(dir, step string) Failpoint {
	data, err := os.ReadFile(failpointPath(dir, step))
	if err != nil {
		return Failpoint{}
	}
	var p Failpoint
	if err := json.Unmarshal(data, &p); err != nil {
		return Failpoint{Exit: 70, Message: "ocitest: bad failpoint: " + err.Error()}
	}
	if p.Times == 0 {
		return p
	}
	for i := range p.Times {
		f, err := os.OpenFile(failpointPath(dir, step)+".used"+strconv.Itoa(i), os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_ = f.Close()
			return p
		}
	}
	return Failpoint{}
}

// happen does the failpoint's part that is before or after the work.
func (p Failpoint) happen(after bool, logPath string) {
	if !after {
		time.Sleep(p.Delay) // a slow runtime is what is asked for
		if p.Log != "" {
			appendFile(logPath, p.Log)
		}
		if p.Grandchild {
			leaveGrandchild()
		}
		fmt.Fprint(os.Stderr, p.Stderr)
	}
	if p.After != after {
		return
	}
	if p.Hang {
		for {
			_ = unix.Pause()
		}
	}
	if p.Signal != 0 {
		signal.Reset(p.Signal)
		_ = syscall.Kill(os.Getpid(), p.Signal)
		_ = unix.Pause()
	}
	if p.Message != "" {
		report(logPath, p.Message)
	}
	if p.Exit != 0 {
		syscall.Exit(p.Exit) // see RunIfFake
	}
}

func leaveGrandchild() {
	cmd := exec.Command("sleep", "1000")
	cmd.Args[0] = os.Args[0] // so that it is found and killed with the rest
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "ocitest:", err)
	}
}

// report says an error as runc does, in the log and on stderr.
func report(logPath, message string) {
	line, err := json.Marshal(map[string]string{"level": "error", "msg": message, "time": time.Now().Format(time.RFC3339)})
	if err == nil && logPath != "" {
		appendFile(logPath, string(line)+"\n")
	}
	fmt.Fprintln(os.Stderr, message)
}

func appendFile(path, text string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return // as a runtime that cannot log
	}
	defer f.Close()
	_, _ = f.WriteString(text)
}
