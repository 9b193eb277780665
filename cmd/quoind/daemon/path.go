// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// extendPath appends to PATH where quoind's own parts are installed: shims
// inherit it and look for runc in it. At the end, so that what the machine has
// comes first.
func extendPath() error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding quoind's own executable: %w", err)
	}
	if err := os.Setenv("PATH", appendDirs(os.Getenv("PATH"), exe)); err != nil {
		return fmt.Errorf("extending PATH: %w", err)
	}
	return nil
}

// appendDirs adds exe's directory and ../libexec/quoin from there to a PATH
// that lacks them.
func appendDirs(path, exe string) string {
	dirs := filepath.SplitList(path)
	bin := filepath.Dir(exe)
	for _, dir := range []string{bin, filepath.Join(filepath.Dir(bin), "libexec", "quoin")} {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, string(os.PathListSeparator))
}
