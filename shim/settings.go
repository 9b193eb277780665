// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/log"

	"github.com/quoin-io/quoin/config"
)

// settings are what a daemon tells its shims by their environment.
type settings struct {
	deadlines config.Deadlines
	// loggerDirs are where binary loggers may be; nil means anywhere.
	loggerDirs []string
}

// readSettings fails for what it does not understand: start does too, so that the
// client of the first container is told.
func readSettings() (settings, error) {
	var s settings
	var err error
	if s.deadlines, err = config.ParseDeadlines(os.Getenv(config.DeadlinesEnv)); err != nil {
		return settings{}, fmt.Errorf("the environment's %s: %w", config.DeadlinesEnv, err)
	}
	if s.loggerDirs, err = config.ParseLoggerDirs(os.Getenv(config.LoggerDirsEnv)); err != nil {
		return settings{}, fmt.Errorf("the environment's %s: %w", config.LoggerDirsEnv, err)
	}
	return s, nil
}

// deadlines are those of the environment, or the defaults for whoever must go on
// although they cannot be read: a cleanup.
func deadlines(ctx context.Context) config.Deadlines {
	s, err := readSettings()
	if err != nil {
		log.G(ctx).WithError(err).Warn("the default deadlines are used")
		return config.DefaultDeadlines()
	}
	return s.deadlines
}
