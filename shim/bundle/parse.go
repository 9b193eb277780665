// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
)

// The messages in which clients give options. Some clients write the name with
// a prefix, as "types.containerd.io/<name>".
const (
	runcOptionsName    = "containerd.runc.v1.Options"
	runtimeOptionsName = "runtimeoptions.v1.Options"     // since containerd 1.4
	criOptionsName     = "cri.runtimeoptions.v1.Options" // the same message, before
)

// ParseOptions decodes the options of a task or a shim:
//
//   - containerd.runc.v1.Options, what `ctr --runc-binary …` and clients of the
//     Go API send, for any runtime type;
//   - runtimeoptions.v1.Options, what CRI sends for a runtime type that it does
//     not know: the handler's options table as TOML in config_body, or a file of
//     the same form at config_path, which is used when both are set;
//   - no type and no value: the zero Options.
//
// Errors: errdefs.ErrInvalidArgument for another type and for anything
// malformed; errdefs.ErrNotFound when config_path names no file.
func ParseOptions(typeURL string, value []byte) (Options, error) {
	name := typeURL[strings.LastIndexByte(typeURL, '/')+1:]
	switch name {
	case "":
		if len(value) != 0 {
			return Options{}, fmt.Errorf("runtime options have a value but no type: %w", errdefs.ErrInvalidArgument)
		}
		return Options{}, nil
	case runcOptionsName:
		var p options.Options
		if err := proto.Unmarshal(value, &p); err != nil {
			return Options{}, fmt.Errorf("decode %s: %w: %w", name, err, errdefs.ErrInvalidArgument)
		}
		return fromMessage(&p)
	case runtimeOptionsName, criOptionsName:
		var p runtimeoptions.Options
		if err := proto.Unmarshal(value, &p); err != nil {
			return Options{}, fmt.Errorf("decode %s: %w: %w", name, err, errdefs.ErrInvalidArgument)
		}
		return fromRuntimeOptions(p.GetConfigPath(), p.GetConfigBody())
	}
	return Options{}, fmt.Errorf("runtime options of type %q are not supported, use %s or %s: %w",
		typeURL, runcOptionsName, runtimeOptionsName, errdefs.ErrInvalidArgument)
}

func fromRuntimeOptions(path string, body []byte) (Options, error) {
	if path == "" {
		o, err := parseTOML(body)
		if err != nil {
			return Options{}, fmt.Errorf("runtime options: %w", err)
		}
		return o, nil
	}
	if !filepath.IsAbs(path) {
		return Options{}, fmt.Errorf("runtime options: config path %q is not absolute: %w", path, errdefs.ErrInvalidArgument)
	}
	data, err := readFile(path, 0, maxOptions)
	if errors.Is(err, fs.ErrNotExist) {
		return Options{}, fmt.Errorf("runtime options: config path %s does not exist: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return Options{}, fmt.Errorf("runtime options: %w", err)
	}
	o, err := parseTOML(data)
	if err != nil {
		return Options{}, fmt.Errorf("runtime options in %s: %w", path, err)
	}
	return o, nil
}

// pipeOwner checks a uid or gid for the stdio pipes.
func pipeOwner(name string, id int64) (uint32, error) {
	if id < 0 || id > math.MaxInt32 {
		return 0, fmt.Errorf("runtime option %s = %d is not an id in 0..%d: %w", name, id, math.MaxInt32, errdefs.ErrInvalidArgument)
	}
	return uint32(id), nil
}
