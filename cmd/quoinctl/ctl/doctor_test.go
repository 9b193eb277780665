// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/config"
)

// runDoctor runs it for a daemon that is not there, and returns its exit code.
func runDoctor(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	address := filepath.Join(t.TempDir(), "quoind.sock")
	stdout, stderr, err := quoinctl(t, env, append([]string{"--address", address, "doctor"}, args...)...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return stdout, stderr, code
}

// Exit code and JSON agree, and a failure is told in the output alone.
func TestDoctorExitCode(t *testing.T) {
	bin := t.TempDir()
	install := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	install("runc", "echo runc version 1.5.2")
	path := []string{"PATH=" + bin}
	for _, tc := range []struct {
		name  string
		shim  string
		wants string
	}{
		{"fails", "exit 3", "fail"},
		{"runs", "echo Version: " + config.Version + "; echo Revision: " + config.Revision, "ok"},
	} {
		install(config.ShimBinary, tc.shim+"\n")
		stdout, stderr, code := runDoctor(t, path, "--json")
		var report struct {
			Schema   int
			Version  string
			Verdict  string
			Counts   map[string]int
			Findings []struct{ ID, Status string }
		}
		if err := json.Unmarshal([]byte(stdout), &report); err != nil {
			t.Fatalf("%s: %v in %s%s", tc.name, err, stdout, stderr)
		}
		if report.Schema != 1 || report.Version != config.Version || len(report.Findings) < 30 {
			t.Errorf("%s: %+v", tc.name, report)
		}
		for _, f := range report.Findings {
			if f.ID == "programs.shim" && f.Status != tc.wants {
				t.Errorf("%s: the shim is %s", tc.name, f.Status)
			}
		}
		if (code == 1) != (report.Counts["fail"] > 0) || (code == 1) != (report.Verdict == "fail") || code > 1 || stderr != "" {
			t.Errorf("%s: exit code %d, verdict %s, counts %v, stderr %q", tc.name, code, report.Verdict, report.Counts, stderr)
		}
	}
}

func TestDoctorText(t *testing.T) {
	stdout, stderr, code := runDoctor(t, nil)
	for _, want := range []string{"cgroups\n", "computed on the spot", "no quoind runs", " ok, "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "\x1b") || stderr != "" || code > 1 {
		t.Errorf("exit code %d, stderr %q, stdout %q", code, stderr, stdout)
	}
}

func TestDoctorCommandLine(t *testing.T) {
	if _, stderr, code := runDoctor(t, nil, "more"); code != 1 || !strings.Contains(stderr, "no arguments") {
		t.Errorf("%d, %s", code, stderr)
	}
	if stdout, _, code := runDoctor(t, nil, "--help"); code != 0 || !strings.Contains(stdout, "--json") || !strings.Contains(stdout, "exit code is 1") {
		t.Errorf("%d, %s", code, stdout)
	}
	if stdout, _, err := quoinctl(t, nil, "--generate-shell-completion"); err != nil || !strings.Contains(stdout, "doctor") {
		t.Errorf("%v, %s", err, stdout)
	}
}
