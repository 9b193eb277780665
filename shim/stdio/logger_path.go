// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
)

// permittedLogger returns the path by which a logging program is to be run: its own
// where it may be anywhere, else the one that it has when all links are followed,
// which must be in one of dirs. Neither that directory nor one above may be
// writable for anybody but its owner, root or this user, so that what was looked at
// is what is executed.
//
// Errors: errdefs.ErrPermissionDenied; errdefs.ErrInvalidArgument for a program
// that is not there.
func permittedLogger(path string, dirs []string) (string, error) {
	if len(dirs) == 0 {
		return path, nil
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("logger %s does not exist: %w", path, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return "", fmt.Errorf("logger %s: %w", path, err)
	}
	inside := slices.ContainsFunc(dirs, func(dir string) bool {
		dir, err := filepath.EvalSymlinks(dir)
		return err == nil && strings.HasPrefix(real, strings.TrimSuffix(dir, "/")+"/")
	})
	if !inside {
		where := path
		if real != path {
			where += ", which is " + real + ","
		}
		return "", fmt.Errorf("logger %s is in none of the directories that loggers may be run from (%s): %w",
			where, strings.Join(dirs, ", "), errdefs.ErrPermissionDenied)
	}
	for at := real; ; at = filepath.Dir(at) {
		if err := onlyOurs(at); err != nil {
			return "", fmt.Errorf("logger %s: %w", path, err)
		}
		if at == "/" {
			return real, nil
		}
	}
}

// onlyOurs checks that nobody else can change a file, or what is in a directory.
func onlyOurs(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d: %w", path, sys.Uid, errdefs.ErrPermissionDenied)
	}
	// In a sticky directory nobody can replace what is another's.
	sticky := st.IsDir() && st.Mode()&os.ModeSticky != 0
	if st.Mode()&os.ModeSymlink == 0 && st.Mode().Perm()&0o022 != 0 && !sticky {
		return fmt.Errorf("%s can be changed by others (mode %04o): %w", path, st.Mode().Perm(), errdefs.ErrPermissionDenied)
	}
	return nil
}
