// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"strings"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/stdio"
)

// openIO opens the streams of a process, which looks at the paths that the client
// named: they may be where a file system does not answer.
func (c *Container) openIO(ctx context.Context, o bundle.Options, id string, s stdio.Streams) (*stdio.IO, error) {
	if strings.HasPrefix(s.Stdout, "binary") {
		// A logging program stays, in the cgroup that it is started in.
		if err := c.awaitHome(ctx); err != nil {
			return nil, err
		}
	}
	d := c.set.env.Deadlines
	io, err := bounded(c, ctx, d.Open+d.Logger, "open the streams", func(ctx context.Context) (*stdio.IO, error) {
		return stdio.Open(ctx, s, c.ioOptions(o, id))
	}, func(io *stdio.IO) {
		if err := io.Close(); err != nil {
			c.log().WithError(err).Warn("close streams that were given up")
		}
	})
	if err != nil {
		return nil, fmt.Errorf("open the streams of %q: %w", id, err)
	}
	return io, nil
}

func (c *Container) ioOptions(o bundle.Options, id string) stdio.Options {
	return stdio.Options{
		ID:         id,
		Namespace:  c.set.env.Namespace,
		UID:        o.IoUID,
		GID:        o.IoGID,
		Dir:        c.set.env.SocketDir,
		Deadlines:  c.set.env.Deadlines,
		Children:   c.set.env.Reaper,
		LoggerDirs: c.set.env.LoggerDirs,
	}
}

// connect lets the streams flow once the process is there.
func (c *Container) connect(ctx context.Context, io *stdio.IO) error {
	d := c.set.env.Deadlines
	_, err := bounded(c, ctx, d.Console+d.Open, "connect the streams", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, io.Started(ctx)
	}, nil)
	if err != nil {
		return fmt.Errorf("connect the streams: %w", err)
	}
	return nil
}

// closeIO releases streams. A logger has its time to end, and a file's last write
// may not return.
func (c *Container) closeIO(io *stdio.IO) error {
	d := c.set.env.Deadlines
	return c.within(3*d.Logger+d.Drain, "close the streams", io.Close)
}
