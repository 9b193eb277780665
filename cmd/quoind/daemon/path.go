// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/log"

	"github.com/quoin-io/quoin/plugins/runtime"
)

// runcName is what shims look for unless a runtime's options name another.
const runcName = "runc"

// runcDeadline bounds the asking of runtimes for their versions at the start.
const runcDeadline = 5 * time.Second

// extendPath adds to PATH where quoind's own parts are installed: shims inherit
// it and look for runc in it. At the end, so that what the machine has comes
// first; but before a runc of the machine's that is known to be unsafe.
func extendPath(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding quoind's own executable: %w", err)
	}
	path := appendDirs(os.Getenv("PATH"), exe)
	if dir := preferredDir(ctx, path, exe); dir != "" {
		path = dir + string(os.PathListSeparator) + path
	}
	if err := os.Setenv("PATH", path); err != nil {
		return fmt.Errorf("extending PATH: %w", err)
	}
	return nil
}

// ownDirs are where quoind's parts are: beside exe, and in ../libexec/quoin from
// there.
func ownDirs(exe string) []string {
	bin := filepath.Dir(exe)
	return []string{bin, filepath.Join(filepath.Dir(bin), "libexec", "quoin")}
}

// appendDirs adds exe's own directories to a PATH that lacks them.
func appendDirs(path, exe string) string {
	dirs := filepath.SplitList(path)
	for _, dir := range ownDirs(exe) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, string(os.PathListSeparator))
}

// preferredDir is the one of exe's own directories that has to come first in path
// for its runc to be used, and says so in the log; "" if there is none.
func preferredDir(ctx context.Context, path, exe string) string {
	ctx, cancel := context.WithTimeout(ctx, runcDeadline)
	defer cancel()
	machine := ""
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file, err := exec.LookPath(filepath.Join(dir, runcName))
		switch {
		case err != nil:
		case machine == "":
			machine = file
		case slices.Contains(ownDirs(exe), dir):
			prefer, why := runtime.PreferShipped(ctx, machine, file)
			if !prefer {
				return ""
			}
			log.G(ctx).Infof("%s, which came with quoind, is used in place of %s: %s. BinaryName in a runtime's options chooses another", file, machine, why)
			return dir
		}
	}
	return ""
}
