// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// LoggerDirsEnv is the environment variable by which a daemon tells its shims
// from which directories binary:// loggers may be run, in the form of PATH. Unset
// or empty means from anywhere.
const LoggerDirsEnv = "QUOIN_LOGGER_DIRS"

// ParseLoggerDirs reads the value of LoggerDirsEnv.
//
// Errors: errdefs.ErrInvalidArgument.
func ParseLoggerDirs(text string) ([]string, error) {
	return CheckLoggerDirs(filepath.SplitList(text))
}

// CheckLoggerDirs returns the directories, clean. An entry that is not absolute is
// errdefs.ErrInvalidArgument: better no logger than one from anywhere.
func CheckLoggerDirs(dirs []string) ([]string, error) {
	var out []string
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("directory of loggers %q is not an absolute path: %w", dir, errdefs.ErrInvalidArgument)
		}
		out = append(out, filepath.Clean(dir))
	}
	return out, nil
}
