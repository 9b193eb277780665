// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/oci"
)

// featuresType is how containerd's typeurl names the JSON of
// features.Features (opencontainers/runtime-spec).
const featuresType = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// printInfo answers -info: CRI learns from it what the OCI runtime can do, above
// all user namespaces and recursive read-only mounts.
func (c *command) printInfo(ctx context.Context) error {
	input, err := io.ReadAll(io.LimitReader(c.stdin, maxInput))
	if err != nil {
		return fmt.Errorf("read the runtime options: %w", err)
	}
	var options anypb.Any
	if err := proto.Unmarshal(input, &options); err != nil {
		return fmt.Errorf("the standard input is no protobuf Any of runtime options: %w", err)
	}
	opts, err := bundle.ParseOptions(options.TypeUrl, options.Value)
	if err != nil {
		return err
	}
	info := &types.RuntimeInfo{
		Name:    config.RuntimeType,
		Version: &types.RuntimeVersion{Version: config.Version, Revision: config.Revision},
	}
	if options.TypeUrl != "" {
		info.Options = &options
	}
	dir, err := os.MkdirTemp("", "quoin-info-")
	if err != nil {
		return fmt.Errorf("make a directory for the OCI runtime's log: %w", err)
	}
	defer os.RemoveAll(dir)
	runtime, err := oci.New(oci.Config{
		Binary:    opts.BinaryName,
		Root:      dir,
		Bundle:    dir,
		Deadlines: deadlines(ctx),
	})
	if err != nil {
		return err
	}
	features, err := runtime.Features(ctx)
	if err != nil {
		return fmt.Errorf("ask the OCI runtime %s what it can do: %w", runtime.Name(), err)
	}
	info.Features = &anypb.Any{TypeUrl: featuresType, Value: features}
	reply, err := proto.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err = c.stdout.Write(reply)
	return err
}
