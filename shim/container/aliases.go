// SPDX-License-Identifier: Apache-2.0

package container

import (
	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/reaper"
	"github.com/quoin-io/quoin/shim/stdio"
)

// What a caller of this package names without knowing who owns it.
type (
	// Streams are the names that a client gave for the standard streams.
	Streams = stdio.Streams
	// Options are the runtime options of a task.
	Options = bundle.Options
	// CheckpointOptions say how a checkpoint is made.
	CheckpointOptions = oci.CheckpointOptions
	// Exit is how a process ended.
	Exit = reaper.Exit
)

// ParseOptions decodes the runtime options of a create; see bundle.ParseOptions.
func ParseOptions(typeURL string, value []byte) (Options, error) {
	return bundle.ParseOptions(typeURL, value)
}
