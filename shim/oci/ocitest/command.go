// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

const callsFile = "calls"

// invocation is one run of the fake, its command line taken apart.
type invocation struct {
	root, log, step string
	flags           map[string]string // of the step; "" for those without a value
	words           []string          // id, and what follows
	fail            Failpoint
}

// valued are the options that take a value.
var valued = map[string]bool{
	"root": true, "log": true, "log-format": true, "bundle": true, "pid-file": true, "console-socket": true, "process": true,
	"resources": true, "format": true, "image-path": true, "work-path": true, "parent-path": true, "manage-cgroups-mode": true, "empty-ns": true,
}

func parse(dir string, args []string) invocation {
	v := invocation{root: filepath.Join(dir, "root"), flags: map[string]string{}}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--version":
			v.step = arg
		case strings.HasPrefix(arg, "-"):
			name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
			if valued[name] && !given && i+1 < len(args) {
				i++
				value = args[i]
			}
			v.flags[name] = value
		case v.step == "":
			v.step = arg
		default:
			v.words = append(v.words, arg)
		}
	}
	if root := v.flags["root"]; root != "" {
		v.root = root
	}
	v.log = v.flags["log"]
	return v
}

// record appends the call, in one write, so that calls at the same time do not mix.
func record(dir, step string, args []string) error {
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	c := Call{Step: step, Args: args, Env: os.Environ(), Dir: wd, FDs: map[string]string{}, Pid: os.Getpid()}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			c.FDs[e.Name()] = target
		}
	}
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, callsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(append(line, '\n'))
	return err
}
