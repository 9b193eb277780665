// SPDX-License-Identifier: Apache-2.0

package ctr

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestLoggers: output to a file and to a logging binary, which gets stdout and
// stderr as descriptors 3 and 4 and says that it is ready by closing 5.
func TestLoggers(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		dir := t.TempDir()
		out, errs := filepath.Join(dir, "out"), filepath.Join(dir, "err")
		logger := filepath.Join(dir, "logger")
		script := fmt.Sprintf("#!/bin/sh\ncat <&3 >%s 5>&- & cat <&4 >%s 5>&- & echo $CONTAINER_ID $CONTAINER_NAMESPACE $1 >%s.env\nexec 5>&-\nwait\n", out, errs, out)
		if err := os.WriteFile(logger, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		container := []string{"sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo err >&2"}
		var want strings.Builder
		for i := range 2000 {
			fmt.Fprintf(&want, "line %d\n", i)
		}

		id := harness.ID(t, "binary")
		d.MustCLI(t, append([]string{"run", "--rm", "--runtime", d.Runtime, "--log-uri", "binary://" + logger + "?argument", harness.BusyboxRef, id}, container...)...)
		for path, content := range map[string]string{out: want.String(), errs: "err\n", out + ".env": id + " " + d.Namespace + " argument\n"} {
			if got, err := os.ReadFile(path); err != nil || string(got) != content {
				t.Errorf("%s has %d bytes %.60q instead of %d (%v)", filepath.Base(path), len(got), got, len(content), err)
			}
		}

		file := filepath.Join(dir, "new", "directory", "log")
		d.MustCLI(t, append([]string{"run", "--rm", "--runtime", d.Runtime, "--log-uri", "file://" + file, harness.BusyboxRef, harness.ID(t, "file")}, container...)...)
		if got, err := os.ReadFile(file); err != nil || len(got) != want.Len()+len("err\n") {
			t.Errorf("the file has %d bytes instead of %d (%v)", len(got), want.Len()+len("err\n"), err)
		}
	})
}
