// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"os"

	"github.com/quoin-io/quoin/shim/ledger"
)

// descent is what the birth records of a shim's containers have in common. The
// directory is the one that the shim was started in, where its events are kept.
func descent() (ledger.Birth, error) {
	self, err := ledger.Identify(os.Getpid())
	if err != nil {
		return ledger.Birth{}, fmt.Errorf("identify the shim: %w", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return ledger.Birth{}, fmt.Errorf("find the shim's directory: %w", err)
	}
	return ledger.Birth{Shim: self, Spool: dir}, nil
}

// conceive records, before an OCI runtime runs, that there may be something to end
// from now on. Where it cannot be recorded the container is made all the same:
// whoever ends it without this shim has the OCI runtime's own notes.
func (c *Container) conceive(m *made) {
	b, err := c.set.descent()
	if err == nil {
		b.CgroupsPath = m.cgroupsPath
		err = ledger.RecordBirth(c.bundle.Path(), b)
	}
	if err != nil {
		c.log().WithError(err).Error("if this shim is killed, the container may be taken for another or for none")
	}
}

// born records which process was made, before anybody is told of it.
func (c *Container) born(m *made, exec string, pid int) {
	if err := c.recordBirth(m, exec, pid); err != nil {
		c.log().WithError(err).WithField("exec", exec).Error("if this shim is killed, the exit of the process stays unknown")
	}
}

func (c *Container) recordBirth(m *made, exec string, pid int) error {
	b, err := c.set.descent()
	if err != nil {
		return err
	}
	if b.Process, err = ledger.Identify(pid); err != nil {
		return err
	}
	if exec != "" {
		return ledger.RecordExecBirth(c.bundle.Path(), exec, b)
	}
	b.CgroupsPath = m.cgroupsPath
	return ledger.RecordBirth(c.bundle.Path(), b)
}
