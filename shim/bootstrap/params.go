// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Args are what containerd passes beside standard input: flags and environment.
type Args struct {
	// ID is the flag -id: the task that is about to be created.
	ID string
	// Namespace is the flag -namespace.
	Namespace string
	// Address is the flag -address: containerd's gRPC socket.
	Address string
	// PublishBinary is the flag -publish-binary: containerd's executable.
	PublishBinary string
	// Debug is the flag -debug.
	Debug bool
	// TTRPCAddress is the environment variable TTRPC_ADDRESS, or empty.
	TTRPCAddress string
}

// Options are the runtime options as they came, not yet understood.
type Options struct {
	// TypeURL is the bare name of the message, without the prefix that some
	// clients put before it ("type.googleapis.com/"). Empty: no options.
	TypeURL string
	// Value is the message, encoded.
	Value []byte
}

// Params is what a start asks for, whichever containerd asked.
type Params struct {
	// ID is the task that is about to be created, Namespace its namespace. Both
	// are single path elements.
	ID, Namespace string
	// Debug asks for verbose logs.
	Debug bool
	// GRPCAddress is containerd's main socket. It is part of the shim's address.
	GRPCAddress string
	// TTRPCAddress is where containerd takes events; empty on daemons without it.
	TTRPCAddress string
	// PublishBinary is containerd's executable.
	PublishBinary string
	// SocketDir is where the shim's socket belongs; empty: DefaultSocketDir.
	SocketDir string
	// ContainerdVersion is what the daemon calls itself; empty when Legacy.
	ContainerdVersion string
	// Options are the runtime options.
	Options Options
	// Legacy says that the daemon reads a plain address (containerd 2.2 and
	// older) and finds the shim again by the bundle's address file.
	Legacy bool
}

// optionTypes are the messages in which runtime options arrive: the runc shim's
// own, and the one that containerd's CRI plugin uses for every other runtime
// type (internal/cri/config, getRuntimeOptionsType).
var optionTypes = []string{"containerd.runc.v1.Options", "runtimeoptions.v1.Options"}

// ParseParams reads what containerd wrote to the standard input of "start".
//
// A BootstrapParams message is recognised by carrying the same id and namespace
// as the command line, because the older form, an Any, is valid as the newer one
// and the other way round (both begin with two strings). Extensions that are not
// runtime options are ignored, as the protocol asks for. Everything else,
// an incomplete command line included, is errdefs.ErrInvalidArgument.
func ParseParams(input []byte, args Args) (Params, error) {
	if err := checkName("id", args.ID); err != nil {
		return Params{}, err
	}
	if err := checkName("namespace", args.Namespace); err != nil {
		return Params{}, err
	}
	var boot bootapi.BootstrapParams
	if len(input) > 0 && proto.Unmarshal(input, &boot) == nil &&
		boot.GetInstanceID() == args.ID && boot.GetNamespace() == args.Namespace {
		return fromBootstrap(&boot, args)
	}
	options, err := legacyOptions(input)
	if err != nil {
		return Params{}, fmt.Errorf("start of %q in namespace %q: %w", args.ID, args.Namespace, err)
	}
	return Params{
		ID:            args.ID,
		Namespace:     args.Namespace,
		Debug:         args.Debug,
		GRPCAddress:   args.Address,
		TTRPCAddress:  args.TTRPCAddress,
		PublishBinary: args.PublishBinary,
		Options:       options,
		Legacy:        true,
	}, nil
}

// fromBootstrap fills what the message leaves out from the command line, which
// containerd keeps passing.
func fromBootstrap(boot *bootapi.BootstrapParams, args Args) (Params, error) {
	dir := boot.GetSocketDir()
	if dir != "" && !filepath.IsAbs(dir) {
		return Params{}, fmt.Errorf("start of %q: socket_dir %q is not an absolute path: %w",
			args.ID, dir, errdefs.ErrInvalidArgument)
	}
	p := Params{
		ID:                args.ID,
		Namespace:         args.Namespace,
		Debug:             args.Debug || boot.GetLogLevel() <= bootapi.LogLevel_LOG_LEVEL_DEBUG,
		GRPCAddress:       orElse(boot.GetContainerdGrpcAddress(), args.Address),
		TTRPCAddress:      orElse(boot.GetContainerdTtrpcAddress(), args.TTRPCAddress),
		PublishBinary:     orElse(boot.GetContainerdBinary(), args.PublishBinary),
		SocketDir:         dir,
		ContainerdVersion: boot.GetContainerdVersion(),
	}
	for _, ext := range boot.GetExtensions() {
		name := messageName(ext.GetValue().GetTypeUrl())
		if slices.Contains(optionTypes, name) {
			p.Options = Options{TypeURL: name, Value: ext.GetValue().GetValue()}
			break
		}
	}
	return p, nil
}

// legacyOptions reads the older form: nothing, or the options in an Any.
func legacyOptions(input []byte) (Options, error) {
	if len(input) == 0 {
		return Options{}, nil
	}
	var options anypb.Any
	if err := proto.Unmarshal(input, &options); err != nil {
		return Options{}, fmt.Errorf("standard input (%d bytes) is neither bootstrap parameters nor runtime options: %w: %w",
			len(input), err, errdefs.ErrInvalidArgument)
	}
	name := messageName(options.GetTypeUrl())
	if len(options.ProtoReflect().GetUnknown()) > 0 {
		return Options{}, fmt.Errorf("standard input (%d bytes) has bootstrap parameters for %q, not for this id and namespace: %w",
			len(input), name, errdefs.ErrInvalidArgument)
	}
	if !slices.Contains(optionTypes, name) {
		return Options{}, fmt.Errorf("runtime options of type %q are not known (use one of %s): %w",
			name, strings.Join(optionTypes, ", "), errdefs.ErrInvalidArgument)
	}
	return Options{TypeURL: name, Value: options.GetValue()}, nil
}

// messageName drops the prefix of a type URL.
func messageName(typeURL string) string {
	return typeURL[strings.LastIndexByte(typeURL, '/')+1:]
}

// checkName refuses a name that would leave its directory, or name none.
func checkName(what, name string) error {
	if name == "" {
		return fmt.Errorf("start without -%s: %w", what, errdefs.ErrInvalidArgument)
	}
	if name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%s %q is not a single path element: %w", what, name, errdefs.ErrInvalidArgument)
	}
	return nil
}

func orElse(value, fallback string) string {
	if value != "" {
		return value
	}
	return fallback
}
