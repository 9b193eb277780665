// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// asQuoinctl in the environment makes the test binary be quoinctl: ctr's
// commands are global, so each run of the command line is a process.
const asQuoinctl = "QUOINCTL_TEST_AS_QUOINCTL"

func TestMain(m *testing.M) {
	if os.Getenv(asQuoinctl) == "" {
		os.Exit(m.Run())
	}
	if err := App().Run(context.Background(), os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "quoinctl:", err)
		os.Exit(1)
	}
}

func quoinctl(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CONTAINERD_") { // the caller's own settings for ctr
			cmd.Env = append(cmd.Env, v)
		}
	}
	// The race detector would wait a second at the end of each process.
	cmd.Env = append(cmd.Env, asQuoinctl+"=1", "GORACE=atexit_sleep_ms=0", "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1")
	cmd.Env = append(cmd.Env, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}
