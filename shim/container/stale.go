// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// clearStale has the OCI runtime forget an earlier container of this id that is dead:
// a create that was given up, whose cleanup hung as well, would keep the id in use for
// ever. One that lives is another daemon's with the same root and namespace, and must
// not come to the cleanup of a create that failed because of it.
//
// Errors: errdefs.ErrAlreadyExists for one that lives; as the runtime's State and Delete.
func (c *Container) clearStale(ctx context.Context, m *made) error {
	if !m.runtime.Holds(c.id) {
		return nil
	}
	state, err := m.runtime.State(ctx, c.id)
	half := errdefs.IsNotFound(err) // of which a runtime that was killed has made a part
	switch {
	case half:
	case err != nil:
		return err
	case state.Status != "stopped":
		return fmt.Errorf("the OCI runtime has a container %q already, which is %s (process %d, bundle %s): %w; does another daemon use the same id, namespace and root?",
			c.id, state.Status, state.Pid, state.Bundle, errdefs.ErrAlreadyExists)
	}
	if err := m.runtime.Delete(ctx, c.id, half); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	c.log().Warn("the OCI runtime had a dead container of this id, which is removed")
	return nil
}
