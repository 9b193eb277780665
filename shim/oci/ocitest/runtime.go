// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// run is the fake's main; it returns the exit status.
func run(dir string, args []string) int {
	v := parse(dir, args)
	if err := record(dir, v.step, args); err != nil {
		fmt.Fprintln(os.Stderr, "ocitest:", err)
		return 70
	}
	if err := passGate(dir, v.step); err != nil {
		fmt.Fprintln(os.Stderr, "ocitest:", err)
		return 70
	}
	v.fail = takeFailpoint(dir, v.step)
	v.fail.happen(false, v.log)
	out, err := v.perform()
	if err != nil {
		report(v.log, err.Error())
		return 1
	}
	if v.fail.Stdout != "" {
		out = v.fail.Stdout
	}
	fmt.Print(out)
	v.fail.happen(true, v.log)
	return 0
}

// perform does the step's work and returns what it prints.
func (v *invocation) perform() (string, error) {
	switch v.step {
	case "--version":
		return "fake version 1.2.3\ncommit: none\nspec: 1.3.0\n", nil
	case "features":
		return `{"ociVersionMin":"1.0.0","ociVersionMax":"1.3.0","mountOptions":["ro","rro"],"linux":{"namespaces":["pid","user"]}}`, nil
	case "create", "restore":
		return "", v.create()
	}
	if len(v.words) == 0 {
		return "", fmt.Errorf("%q needs an argument", v.step)
	}
	dir := filepath.Join(v.root, v.words[0])
	c, err := load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, force := v.flags["force"]; force && v.step == "delete" {
			return "", os.RemoveAll(dir) // of a create that was killed
		}
		return "", errors.New("container does not exist")
	}
	if err != nil {
		return "", err
	}
	return v.operate(c)
}

// operate does a step on a container that there is.
func (v *invocation) operate(c *container) (string, error) {
	switch v.step {
	case "start":
		return "", start(c)
	case "exec":
		return "", v.exec(c)
	case "kill":
		return "", v.kill(c)
	case "delete":
		return "", v.delete(c)
	case "pause", "resume":
		return "", v.freeze(c, v.step == "pause")
	case "ps":
		data, err := json.Marshal(c.pids())
		return string(data), err
	case "state":
		pid := c.Pid
		if c.status() == "stopped" {
			pid = 0
		}
		data, err := json.Marshal(map[string]any{"ociVersion": "1.0.2", "id": c.ID, "pid": pid, "status": c.status(), "bundle": c.Bundle})
		return string(data), err
	case "update":
		data, err := os.ReadFile(v.flags["resources"])
		if err != nil {
			return "", err
		}
		if !json.Valid(data) {
			return "", errors.New("resources are not JSON")
		}
		return "", os.WriteFile(filepath.Join(c.dir, "resources.json"), data, 0o600)
	case "checkpoint":
		return "", v.checkpoint(c)
	}
	return "", fmt.Errorf("unknown command %s", v.step)
}

func (v *invocation) create() error {
	if len(v.words) != 1 {
		return fmt.Errorf("%q requires exactly 1 argument", v.step)
	}
	bundle := v.flags["bundle"]
	p, err := readProcess(bundle)
	if err != nil {
		return err
	}
	c := &container{dir: filepath.Join(v.root, v.words[0]), ID: v.words[0], Bundle: bundle, Started: v.step == "restore"}
	if err := os.MkdirAll(v.root, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return errors.New("container with given ID already exists")
		}
		return err
	}
	if err := v.fill(c, p); err != nil {
		_ = os.RemoveAll(c.dir)
		return err
	}
	return nil
}

func (v *invocation) fill(c *container, p ociProcess) (err error) {
	fifo := ""
	if !c.Started {
		fifo = filepath.Join(c.dir, "start")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			return err
		}
	}
	if c.Pid, err = spawn(p, fifo, v.flags["console-socket"]); err != nil {
		return fmt.Errorf("runc create failed: %w", err)
	}
	if s, err := stat(c.Pid); err == nil {
		c.Born = s.born
	}
	c.Sessions = []int{c.Pid}
	if err := c.save(); err != nil {
		return err
	}
	return writePid(v.flags["pid-file"], c.Pid, v.fail)
}

func start(c *container) error {
	switch s := c.status(); s {
	case "created":
	case "stopped":
		return errors.New("cannot start a container that has stopped")
	default:
		return errors.New("cannot start an already running container")
	}
	if err := release(c); err != nil {
		return err
	}
	return c.update(func(c *container) { c.Started = true })
}

func (v *invocation) exec(c *container) error {
	if c.status() == "stopped" {
		return errors.New("cannot exec in a stopped container")
	}
	data, err := os.ReadFile(v.flags["process"])
	if err != nil {
		return err
	}
	var p ociProcess
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	pid, err := spawn(p, "", v.flags["console-socket"])
	if err != nil {
		return fmt.Errorf("exec failed: %w", err)
	}
	if err := c.update(func(c *container) { c.Sessions = append(c.Sessions, pid) }); err != nil {
		return err
	}
	return writePid(v.flags["pid-file"], pid, v.fail)
}

func (v *invocation) kill(c *container) error {
	if len(v.words) != 2 {
		return errors.New("kill needs an id and a signal")
	}
	n, err := strconv.Atoi(v.words[1])
	if err != nil {
		return fmt.Errorf("unknown signal %q", v.words[1])
	}
	if _, all := v.flags["all"]; all {
		c.signalAll(syscall.Signal(n))
		return nil
	}
	if c.status() == "stopped" {
		return errors.New("container not running")
	}
	return syscall.Kill(c.Pid, syscall.Signal(n))
}

func (v *invocation) delete(c *container) error {
	if s := c.status(); s != "stopped" {
		if _, force := v.flags["force"]; !force {
			return fmt.Errorf("cannot delete container %s that is not stopped: %s", c.ID, s)
		}
		c.signalAll(syscall.SIGKILL)
	}
	return os.RemoveAll(c.dir)
}

func (v *invocation) freeze(c *container, pause bool) error {
	sig := syscall.SIGCONT
	switch s := c.status(); {
	case pause && s != "running" && s != "created":
		return errors.New("container not running or created")
	case !pause && s != "paused":
		return errors.New("container not paused")
	case pause:
		sig = syscall.SIGSTOP
	}
	c.signalAll(sig)
	return c.update(func(c *container) { c.Paused = pause })
}

// checkpoint keeps nothing but a mark: the program begins anew at restore.
func (v *invocation) checkpoint(c *container) error {
	image := v.flags["image-path"]
	if err := os.MkdirAll(image, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(image, "fake.img"), []byte(c.ID), 0o600); err != nil {
		return err
	}
	if _, leave := v.flags["leave-running"]; leave {
		return nil
	}
	c.signalAll(syscall.SIGKILL)
	return os.RemoveAll(c.dir) // as runc does
}
