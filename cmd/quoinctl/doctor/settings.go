// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/plugins/cgroupdriver"
)

// settings are what quoind's configuration files say of what is looked at here.
type settings struct {
	place config.Daemon
	// driver is that of the cgroup driver plugin.
	driver cgroupdriver.Setting
	// keepOOMScore says that CRI leaves oom_score_adj as it is where it may
	// not lower it.
	keepOOMScore bool
	// deadlines and loggerDirs are what shims are told.
	deadlines  map[string]string
	loggerDirs []string
	// err tells of files that could not be read.
	err error
}

// settingsFile is one of quoind's configuration files. Of containerd's older
// formats it knows what can be in them: they have no cgroup driver.
type settingsFile struct {
	Root    string    `toml:"root"`
	State   string    `toml:"state"`
	Imports *[]string `toml:"imports"`
	GRPC    struct {
		Address string `toml:"address"`
	} `toml:"grpc"`
	Plugins struct {
		Server struct {
			Address string `toml:"address"`
		} `toml:"io.containerd.server.v1.grpc"`
		Driver struct {
			Driver string `toml:"driver"`
		} `toml:"io.quoin.node.v1.cgroupdriver"`
		Runtime struct {
			Deadlines  map[string]string `toml:"deadlines"`
			LoggerDirs []string          `toml:"logger_dirs"`
		} `toml:"io.quoin.runtime.v1.quoin"`
		CRI struct {
			KeepOOMScore *bool `toml:"restrict_oom_score_adj"`
		} `toml:"io.containerd.cri.v1.runtime"`
	} `toml:"plugins"`
}

// readSettings reads the files as quoind does: the main one, then what it
// imports, or the drop-ins where it does not say.
func readSettings(h *host) settings {
	s := settings{place: config.DefaultDaemon(), driver: cgroupdriver.Auto}
	patterns := []string{s.place.DropIns}
	main, err := s.apply(h, s.place.Config)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.err = err
	}
	if main.Imports != nil {
		patterns = *main.Imports
	}
	for _, pattern := range patterns {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(s.place.Config), pattern)
		}
		for _, file := range h.glob(pattern) {
			if _, err := s.apply(h, file); err != nil {
				s.err = errors.Join(s.err, err)
			}
		}
	}
	return s
}

// apply overrides with what a file sets.
func (s *settings) apply(h *host, name string) (settingsFile, error) {
	var f settingsFile
	text, err := h.read(name)
	if err == nil {
		err = toml.Unmarshal([]byte(text), &f)
	}
	if err != nil {
		return settingsFile{}, fmt.Errorf("%s: %w", name, err)
	}
	override(&s.place.Root, f.Root)
	override(&s.place.State, f.State)
	override(&s.place.Address, f.GRPC.Address)
	override(&s.place.Address, f.Plugins.Server.Address)
	if d := f.Plugins.Driver.Driver; d != "" {
		s.driver = cgroupdriver.Setting(d)
	}
	for name, value := range f.Plugins.Runtime.Deadlines {
		if s.deadlines == nil {
			s.deadlines = map[string]string{}
		}
		s.deadlines[name] = value
	}
	if dirs := f.Plugins.Runtime.LoggerDirs; dirs != nil {
		s.loggerDirs = dirs
	}
	if v := f.Plugins.CRI.KeepOOMScore; v != nil {
		s.keepOOMScore = *v
	}
	return f, nil
}

func override(value *string, with string) {
	if with != "" {
		*value = with
	}
}
