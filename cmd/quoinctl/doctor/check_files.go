// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/quoin-io/quoin/config"
)

// modeRule says who may do what with a file of the daemon's.
type modeRule struct {
	path string
	// socket, or else a directory.
	socket bool
	// fail are the permission bits that let others in, warn those that nobody
	// needs.
	fail, warn os.FileMode
	// want is what chmod should set.
	want os.FileMode
	// risk is what others could do.
	risk string
}

func checkRootMode(_ context.Context, w *world) Finding {
	return w.mode(modeRule{path: w.place.Root, fail: 0o077, want: 0o700,
		risk: "others can reach files of images and containers"})
}

func checkStateMode(_ context.Context, w *world) Finding {
	return w.mode(modeRule{path: w.place.State, fail: 0o022, warn: 0o044, want: 0o711,
		risk: "others can put files of theirs there"})
}

func checkBundlesMode(_ context.Context, w *world) Finding {
	return w.mode(modeRule{path: filepath.Join(w.place.State, config.BundlesDir), fail: 0o022, warn: 0o044, want: 0o711,
		risk: "others can change what containers run"})
}

func checkShimSocketsMode(_ context.Context, w *world) Finding {
	return w.mode(modeRule{path: w.place.ShimSocketDir(), fail: 0o022, warn: 0o055, want: 0o700,
		risk: "others can answer in place of a shim"})
}

func checkSocketMode(_ context.Context, w *world) Finding {
	return w.mode(modeRule{path: w.place.Address, socket: true, fail: 0o007, want: 0o660,
		risk: "everybody can be root by it"})
}

func checkTTRPCMode(_ context.Context, w *world) Finding {
	return w.mode(modeRule{path: w.place.TTRPCAddress(), socket: true, fail: 0o007, want: 0o660,
		risk: "everybody can send the daemon events of containers"})
}

// mode applies a rule. What is not there yet is made with the right mode when
// the daemon starts.
func (w *world) mode(r modeRule) Finding {
	st, err := os.Lstat(w.at(r.path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return good("%s is not there yet", r.path).with("path", r.path)
	case errors.Is(err, fs.ErrPermission):
		return warning(asRoot, "%s cannot be looked at", r.path).with("path", r.path)
	case err != nil:
		return warning("look at "+r.path, "%s: %v", r.path, pathless(err)).with("path", r.path)
	}
	if st.Mode().Type() == fs.ModeSymlink && !r.socket { // to another disk, say
		if st, err = os.Stat(w.at(r.path)); err != nil {
			return failure("make the directory that it is a link to, or remove the link", "%s is a link that leads nowhere: %v", r.path, pathless(err)).with("path", r.path)
		}
	}
	perm := st.Mode().Perm()
	owner := st.Sys().(*syscall.Stat_t)
	f := w.judgeMode(r, st, int(owner.Uid))
	if r.socket && perm&0o060 != 0 && owner.Gid != 0 && f.Status == OK {
		f.Message += fmt.Sprintf("; members of group %d are as good as root", owner.Gid)
	}
	return f.with("path", r.path).with("mode", fmt.Sprintf("%04o", perm)).with("uid", owner.Uid).with("gid", owner.Gid)
}

func (w *world) judgeMode(r modeRule, st os.FileInfo, uid int) Finding {
	perm := st.Mode().Perm()
	chmod := fmt.Sprintf("chmod %o %s", r.want, r.path)
	switch {
	case r.socket && st.Mode().Type() != fs.ModeSocket:
		return failure(fmt.Sprintf("remove %s and restart the daemon", r.path), "%s is not a socket (%s)", r.path, st.Mode())
	case !r.socket && !st.IsDir():
		return failure(fmt.Sprintf("remove %s and restart the daemon", r.path), "%s is not a directory (%s)", r.path, st.Mode())
	case uid != 0 && uid != w.euid:
		return failure(fmt.Sprintf("chown root %s, after a look at who made it", r.path), "%s belongs to user %d, not to root", r.path, uid)
	case perm&r.fail != 0:
		return failure(chmod, "%s has mode %04o: %s", r.path, perm, r.risk)
	case perm&r.warn != 0:
		return warning(chmod, "%s has mode %04o, more than is needed", r.path, perm)
	}
	return good("%s has mode %04o", r.path, perm)
}
