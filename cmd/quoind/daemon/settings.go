// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/config"
)

// Plugins whose settings follow from where quoind keeps its files.
const (
	grpcURI  = "io.containerd.server.v1.grpc"
	ttrpcURI = "io.containerd.server.v1.ttrpc"
	shimURI  = "io.containerd.shim.v1.manager"
	nriURI   = "io.containerd.nri.v1.nri"
)

// request is what the command line asks for; an empty string means nothing.
type request struct {
	config               string
	explicit             bool   // config was named, so it must exist
	dropIns              string // pattern of the files that config imports if it does not say
	root, state, address string
}

func requestOf(cmd *cli.Command) request {
	req := request{
		config:   cmd.String("config"),
		explicit: cmd.IsSet("config"),
		root:     cmd.String("root"),
		state:    cmd.String("state"),
		address:  cmd.String("address"),
	}
	// A file elsewhere stands for itself: the machine's drop-ins are not its.
	if place := config.DefaultDaemon(); req.config == place.Config {
		req.dropIns = place.DropIns
	}
	return req
}

// resolve returns what quoind runs with: its defaults, overridden by the user's
// files, overridden by the command line. Settings that follow from others, such
// as the ttrpc socket from the gRPC one, follow unless a file sets them.
func resolve(ctx context.Context, req request) (*srvconfig.Config, error) {
	settings, err := defaults()
	if err != nil {
		return nil, err
	}
	// Defaults of plugins are in their registrations, where a file can
	// override each key; what is left here is only what the user set.
	settings.Plugins = map[string]any{}

	files, err := filesOf(req)
	if err != nil {
		return nil, err
	}
	regs := registry.Graph(func(*plugin.Registration) bool { return false })
	plugins := func() iter.Seq[plugin.Registration] { return slices.Values(regs) }
	for _, file := range files {
		if err := srvconfig.LoadConfigWithPlugins(ctx, file, plugins, settings); err != nil {
			return nil, fmt.Errorf("reading configuration %s: %w", file, err)
		}
	}
	if err := settle(settings, req); err != nil {
		return nil, err
	}
	return settings, nil
}

// defaults parses the compiled-in quoind.toml.
func defaults() (*srvconfig.Config, error) {
	settings := &srvconfig.Config{
		DisabledPlugins: []string{},
		ProxyPlugins:    map[string]srvconfig.ProxyPlugin{},
		Timeouts:        map[string]string{},
	}
	if err := toml.Unmarshal([]byte(config.QuoindTOML()), settings); err != nil {
		return nil, fmt.Errorf("parsing the compiled-in quoind.toml: %w", err)
	}
	if settings.Version != version.ConfigVersion {
		return nil, fmt.Errorf("the compiled-in quoind.toml has version %d, containerd %d", settings.Version, version.ConfigVersion)
	}
	return settings, nil
}

// filesOf lists the files to read, later ones overriding. Like every other key,
// imports has its default where the file does not set it or is not there.
func filesOf(req request) ([]string, error) {
	if req.config == "" {
		return nil, nil
	}
	text, err := os.ReadFile(req.config)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !req.explicit:
		return filepath.Glob(req.dropIns)
	case err != nil:
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	files := []string{req.config}
	var main struct {
		Imports *[]string `toml:"imports"`
	}
	if toml.Unmarshal(text, &main) != nil || main.Imports != nil {
		return files, nil // what is malformed is told, with its place, when it is loaded
	}
	dropIns, err := filepath.Glob(req.dropIns)
	return append(files, dropIns...), err
}

// settle applies the command line and then what follows from the result.
func settle(settings *srvconfig.Config, req request) error {
	for _, dir := range []struct {
		asked string
		field *string
	}{{req.root, &settings.Root}, {req.state, &settings.State}} {
		if dir.asked == "" {
			continue
		}
		abs, err := filepath.Abs(dir.asked)
		if err != nil {
			return fmt.Errorf("finding the directory %q: %w", dir.asked, err)
		}
		*dir.field = abs
	}
	grpc, err := section(settings, grpcURI)
	if err != nil {
		return err
	}
	if req.address != "" {
		grpc["address"] = req.address
	}
	place := config.DefaultDaemon()
	place.Root, place.State = settings.Root, settings.State
	if address, ok := grpc["address"].(string); ok {
		place.Address = address
	}
	if err := place.Validate(); err != nil {
		return fmt.Errorf("invalid configuration: %w", err)
	}
	if err := follow(settings, place, grpc); err != nil {
		return err
	}
	settings.RequiredPlugins = slices.DeleteFunc(settings.RequiredPlugins, func(uri string) bool {
		return slices.Contains(settings.DisabledPlugins, uri)
	})
	return nil
}

// follow fills in, where no file set them, the settings that depend on place.
func follow(settings *srvconfig.Config, place config.Daemon, grpc map[string]any) error {
	ttrpc, err := section(settings, ttrpcURI)
	if err != nil {
		return err
	}
	shims, err := section(settings, shimURI)
	if err != nil {
		return err
	}
	nri, err := section(settings, nriURI)
	if err != nil {
		return err
	}
	fill(grpc, "address", place.Address)
	// Whoever may use the one socket may use the other.
	if _, set := ttrpc["address"]; !set {
		for _, owner := range []string{"uid", "gid"} {
			if id, ok := grpc[owner]; ok {
				fill(ttrpc, owner, id)
			}
		}
	}
	fill(ttrpc, "address", place.TTRPCAddress())
	fill(shims, "socket_dir", place.ShimSocketDir())
	if socket := place.NRISocket(); socket != "" {
		fill(nri, "socket_path", socket)
	} else if _, set := nri["socket_path"]; !set {
		fill(nri, "disable_connections", true)
	}
	return nil
}

// section returns the table of one plugin's settings, made when missing.
func section(settings *srvconfig.Config, uri string) (map[string]any, error) {
	value, ok := settings.Plugins[uri]
	if !ok {
		table := map[string]any{}
		settings.Plugins[uri] = table
		return table, nil
	}
	table, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("invalid configuration: plugins.%q is %T, not a table", uri, value)
	}
	return table, nil
}

func fill(table map[string]any, key string, value any) {
	if _, set := table[key]; !set {
		table[key] = value
	}
}

// publish writes the settings to a file in memory, which leaves nothing behind
// and which children do not inherit. The caller closes it.
func publish(settings *srvconfig.Config) (*os.File, error) {
	whole := *settings
	whole.Imports = nil // they have been read
	text, err := toml.Marshal(&whole)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	fd, err := unix.MemfdCreate("quoind-config", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating a file in memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "quoind-config")
	if _, err := file.Write(text); err != nil {
		file.Close()
		return nil, fmt.Errorf("writing a file in memory: %w", err)
	}
	return file, nil
}
