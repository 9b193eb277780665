// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"

	"github.com/quoin-io/quoin/config"
)

// containerID is the container's name.
const containerID = "demo"

// story is the demonstration's course and what it saw on the way.
type story struct {
	ctl     *ctl
	image   string   // where to write the image
	init    int      // the container's init, on the host
	shim    int      // its parent
	cgroups []string // the directories of the container's cgroups
}

// tell builds and imports the image and runs it.
func (s *story) tell(ctx context.Context) error {
	snapshotter, err := s.look(ctx)
	if err != nil {
		return err
	}
	say("Building an image out of this program, and importing it: no registry is involved.")
	if err := writeImage(s.image); err != nil {
		return err
	}
	if err := s.ctl.show(ctx, "images", "import", "--snapshotter", snapshotter, s.image); err != nil {
		return err
	}
	return s.run(ctx, snapshotter)
}

// look shows Quoin's plugins and chooses a snapshotter that works here:
// overlayfs does not on top of another overlay.
func (s *story) look(ctx context.Context) (snapshotter string, err error) {
	client, err := containerd.New(s.ctl.socket)
	if err != nil {
		return "", fmt.Errorf("connecting to quoind: %w", err)
	}
	defer client.Close()
	answer, err := client.IntrospectionService().Plugins(ctx)
	if err != nil {
		return "", fmt.Errorf("asking for quoind's plugins: %w", err)
	}
	say("What Quoin adds to containerd, and what it found out about this machine:")
	snapshotter = "native"
	for _, p := range answer.Plugins {
		if p.Type == "io.containerd.snapshotter.v1" && p.ID == "overlayfs" && p.InitErr == nil {
			snapshotter = p.ID
		}
		if strings.HasPrefix(p.Type, "io.quoin.") {
			fmt.Printf("  %s.%s\n", p.Type, p.ID)
			for _, key := range slices.Sorted(maps.Keys(p.Exports)) {
				if p.Exports[key] != "" {
					fmt.Printf("    %-14s %s\n", key, p.Exports[key])
				}
			}
		}
	}
	return snapshotter, nil
}

// run runs the container in the foreground, looks around while it waits, gives
// it the line it waits for, and reports how it ended.
func (s *story) run(ctx context.Context, snapshotter string) error {
	args := []string{"run", "--rm", "--snapshotter", snapshotter, imageRef, containerID}
	say("Running it, through %s (quoinctl's default):", config.RuntimeType)
	fmt.Printf("$ quoinctl %s\n", strings.Join(args, " "))
	cmd := s.ctl.command(ctx, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("running the container: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("running the container: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("running the container: %w", err)
	}
	lines := bufio.NewReader(stdout)
	looked := s.lookAround(ctx, lines)
	// Whatever was seen, the container ends: its input does.
	if looked == nil {
		fmt.Printf("\n$ (types: stop)\n")
		_, looked = io.WriteString(stdin, "stop\n")
	}
	stdin.Close()
	_, _ = io.Copy(os.Stdout, lines)
	waited := cmd.Wait()
	if ctx.Err() != nil {
		s.sweep(context.WithoutCancel(ctx))
		return fmt.Errorf("stopped early: %w", context.Cause(ctx))
	}
	if err := errors.Join(looked, ended(waited)); err != nil {
		s.sweep(ctx)
		return err
	}
	return nil
}

// sweep removes the container after something went wrong, such as an
// interruption: quoind's end alone would leave it running. What of it is not
// there cannot be removed, so errors mean nothing here.
func (s *story) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"tasks", "delete", "--force", containerID},
		{"containers", "delete", containerID},
	} {
		_, _ = s.ctl.output(ctx, args...)
	}
}

// ended reports the exit status of the container's program.
func ended(err error) error {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("running the container: %w", err)
	}
	code := 0
	if exit != nil {
		code = exit.ExitCode()
	}
	say("It ended with exit code %d.", code)
	if code != exitCode {
		return fmt.Errorf("the container ended with exit code %d, not %d", code, exitCode)
	}
	return nil
}

// lookAround shows the container's output until it waits, then its processes
// and its cgroup.
func (s *story) lookAround(ctx context.Context, lines *bufio.Reader) error {
	for {
		line, err := lines.ReadString('\n')
		fmt.Print(line)
		if err != nil {
			return fmt.Errorf("the container ended too soon: %w", err)
		}
		if strings.TrimSpace(line) == readyLine {
			break
		}
	}
	if err := s.showProcesses(ctx); err != nil {
		return err
	}
	return s.showCgroup(ctx)
}

func (s *story) showProcesses(ctx context.Context) error {
	list, err := s.ctl.output(ctx, "tasks", "list")
	if err != nil {
		return err
	}
	for _, row := range strings.Split(list, "\n") {
		if fields := strings.Fields(row); len(fields) == 3 && fields[0] == containerID {
			s.init, _ = strconv.Atoi(fields[1])
		}
	}
	if s.init == 0 {
		return fmt.Errorf("the task is not in the list:\n%s", list)
	}
	if s.shim = parentOf(s.init); s.shim == 0 {
		return fmt.Errorf("process %d has no parent", s.init)
	}
	say("Meanwhile, on the host: the shim is the parent of the container's first process.")
	fmt.Println("  PID      PROCESS")
	printTree(s.shim, 0)
	if name := executable(s.shim); name != config.ShimBinary {
		return fmt.Errorf("the parent of the container is %q, not %s", name, config.ShimBinary)
	}
	return nil
}

// showCgroup shows where the container was put and what decided that.
func (s *story) showCgroup(ctx context.Context) error {
	info, err := s.ctl.output(ctx, "containers", "info", containerID)
	if err != nil {
		return err
	}
	var record struct {
		Spec struct {
			Linux struct {
				CgroupsPath string `json:"cgroupsPath"`
			} `json:"linux"`
		}
	}
	if err := json.Unmarshal([]byte(info), &record); err != nil {
		return fmt.Errorf("reading the container's record: %w", err)
	}
	path := record.Spec.Linux.CgroupsPath
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", s.init))
	if err != nil {
		return fmt.Errorf("reading the container's cgroups: %w", err)
	}
	say("The cgroup it runs in, as the kernel tells (/proc/%d/cgroup):", s.init)
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		fmt.Println("  " + line)
	}
	if strings.Count(path, ":") == 2 {
		fmt.Printf("  why: the spec asks for %q, which has systemd's form slice:prefix:name, so systemd placed it.\n", path)
	} else {
		fmt.Printf("  why: the spec asks for %q, which is a path, so it was made in the file system (cgroupfs).\n", path)
	}
	s.cgroups = cgroupDirs(string(text))
	if len(s.cgroups) == 0 {
		return errors.New("none of the container's cgroups is mounted here")
	}
	return nil
}
