// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// container is what the fake keeps of one, in <root>/<id>/state.json.
type container struct {
	dir      string
	ID       string
	Bundle   string
	Pid      int
	Born     uint64 // start time of init, so that its pid can be told from a later one
	Started  bool
	Paused   bool
	Sessions []int // of init and the execs
}

func load(dir string) (*container, error) {
	data, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return nil, err
	}
	c := &container{dir: dir}
	return c, json.Unmarshal(data, c)
}

func (c *container) save() error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	temp := filepath.Join(c.dir, "state."+strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(c.dir, "state.json"))
}

// update changes the state under a lock: execs run at the same time.
func (c *container) update(change func(*container)) error {
	lock, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	fresh, err := load(c.dir)
	if err != nil {
		return err
	}
	change(fresh)
	*c = *fresh
	return c.save()
}

// status is as `runc state` says it.
func (c *container) status() string {
	switch p, err := stat(c.Pid); {
	case err != nil || p.state == 'Z' || p.born != c.Born:
		return "stopped"
	case c.Paused:
		return "paused"
	case !c.Started:
		return "created"
	}
	return "running"
}

// pids are the processes that live in the container's sessions.
func (c *container) pids() []int {
	pids := []int{}
	for _, p := range processes() {
		if p.state != 'Z' && slices.Contains(c.Sessions, p.session) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

func (c *container) signalAll(sig syscall.Signal) {
	for _, pid := range c.pids() {
		_ = syscall.Kill(pid, sig) // it may be gone by now
	}
}

// process is what /proc says of one.
type process struct {
	name    string
	pid     int
	state   byte
	session int
	born    uint64
}

func stat(pid int) (process, error) {
	p := process{name: strconv.Itoa(pid), pid: pid}
	data, err := os.ReadFile(filepath.Join("/proc", p.name, "stat"))
	if err != nil {
		return p, err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return p, fmt.Errorf("stat of process %d is malformed", pid)
	}
	p.state = fields[0][0]
	if p.session, err = strconv.Atoi(string(fields[3])); err != nil {
		return p, err
	}
	p.born, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return p, err
}

func processes() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, err := stat(pid); err == nil {
			all = append(all, p)
		}
	}
	return all
}
