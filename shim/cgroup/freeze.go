// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Freeze stops every process of the cgroup and of those below it, and returns
// once the kernel says that all are stopped. When ctx ends before, it thaws
// them again and returns ctx's error.
//
// It fails with ErrNotFound when the cgroup is gone, with ErrNotImplemented
// when no freezer is mounted, and with ErrFailedPrecondition like Kill.
func (c *Cgroup) Freeze(ctx context.Context) error {
	if _, err := c.victims("freeze"); err != nil {
		return err
	}
	return c.setFrozen(ctx, true)
}

// Thaw lets the processes run again. It fails like Freeze. A cgroup that is
// not frozen is left as it is; one whose parent is frozen stays frozen until
// ctx ends.
func (c *Cgroup) Thaw(ctx context.Context) error {
	if c == nil {
		return c.notFound("thaw")
	}
	return c.setFrozen(ctx, false)
}

func (c *Cgroup) setFrozen(ctx context.Context, frozen bool) error {
	doing := map[bool]string{true: "freeze", false: "thaw"}[frozen]
	var err error
	if d, ok := c.controller("freezer"); ok && !d.top {
		err = setLegacyFrozen(ctx, d.dir, frozen)
	} else if c.unified != "" && !c.top {
		err = setUnifiedFrozen(ctx, c.unified, frozen)
	} else {
		return fmt.Errorf("%s %s: no freezer has this cgroup: %w", doing, c, errdefs.ErrNotImplemented)
	}
	if gone(err) {
		return c.notFound(doing)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", doing, c, err)
	}
	return nil
}

func setUnifiedFrozen(ctx context.Context, dir string, frozen bool) error {
	if !frozen {
		if err := writeFile(dir, "cgroup.freeze", "0"); err != nil {
			return err
		}
		return waitEvents(ctx, dir, "frozen", 0)
	}
	if err := writeFile(dir, "cgroup.freeze", "1"); err != nil {
		return err
	}
	// One with processes of its own counts as frozen when these are, whatever those
	// below it do (kernel/cgroup/freezer.c, cgroup_update_frozen).
	err := walk(dir, func(dir string) error { return waitEvents(ctx, dir, "frozen", 1) })
	if err != nil {
		_ = writeFile(dir, "cgroup.freeze", "0")
	}
	return err
}

// setLegacyFrozen polls, because the v1 freezer tells nobody when it is done.
// It also has to ask again: a state of FREEZING stays when a process was
// forked or moved in at the wrong moment, until FROZEN is written once more,
// and at times only after a thaw in between.
func setLegacyFrozen(ctx context.Context, dir string, frozen bool) error {
	want := "THAWED"
	if frozen {
		want = "FROZEN"
	}
	f := openFiles(dir, make([]byte, 32))
	defer f.close()
	var b backoff
	for try := 1; ; try++ {
		if frozen && try%thawEvery == 0 {
			if err := writeFile(dir, "freezer.state", "THAWED"); err != nil {
				return err
			}
		}
		if err := writeFile(dir, "freezer.state", want); err != nil {
			return err
		}
		state := strings.TrimSpace(string(f.read("freezer.state")))
		if state == want {
			return nil
		}
		if err := b.wait(ctx); err != nil {
			if frozen {
				_ = writeFile(dir, "freezer.state", "THAWED")
			}
			return fmt.Errorf("the state is still %q: %w", state, err)
		}
	}
}

// thawEvery is after how many looks the v1 freezer is thawed for an instant.
const thawEvery = 25
