// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
)

// maxOptions bounds options.json and a TOML file of options, in bytes.
const maxOptions = 1 << 20

// Options are those of containerd's runc shim; each means here what it means
// there. The zero value is the default of all of them. The deprecated
// task_api_address and task_api_version are not among them: they are for the
// daemon, and no shim has used them.
type Options struct {
	// NoPivotRoot makes the runtime move the root with MS_MOVE, for a rootfs on
	// the initial ramdisk.
	NoPivotRoot bool
	// NoNewKeyring keeps the session keyring of the shim.
	NoNewKeyring bool
	// ShimCgroup is the cgroup that the shim itself joins.
	ShimCgroup string
	// IoUID and IoGID own the pipes of the container's stdio.
	IoUID, IoGID int
	// BinaryName is the OCI runtime: a name looked up in PATH, or a path.
	// Empty means runc.
	BinaryName string
	// Root is the runtime's state directory, without the namespace.
	Root string
	// SystemdCgroup makes the runtime ask systemd for the cgroup.
	SystemdCgroup bool
	// CriuImagePath is where a checkpoint is written.
	CriuImagePath string
	// CriuWorkPath is for criu's logs and scratch files.
	CriuWorkPath string
}

// WriteOptions records the options for whoever cleans the bundle up later. It
// writes options.json and, as the runc shim does for older ones, the runtime's
// name by itself in "runtime".
func (b *Bundle) WriteOptions(o Options) error {
	p, err := o.message()
	if err != nil {
		return err
	}
	data, err := json.Marshal(p) // encoding/json on the message's Go struct is the format; protojson is not
	if err != nil {
		return fmt.Errorf("encode runtime options: %w", err)
	}
	if err := writeFile(filepath.Join(b.path, optionsFile), data); err != nil {
		return err
	}
	return writeFile(filepath.Join(b.path, runtimeFile), []byte(o.BinaryName))
}

// ReadOptions reads what WriteOptions or a runc shim wrote. A bundle without
// options.json has the zero Options, or, from a shim of before containerd 1.4,
// only the runtime's name. Unknown fields are ignored.
func (b *Bundle) ReadOptions() (Options, error) {
	path := filepath.Join(b.path, optionsFile)
	data, err := readBounded(path, maxOptions)
	if errors.Is(err, fs.ErrNotExist) {
		name, err := readBounded(filepath.Join(b.path, runtimeFile), maxOptions)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Options{}, fmt.Errorf("read runtime name: %w", err)
		}
		return Options{BinaryName: string(name)}, nil
	}
	if err != nil {
		return Options{}, fmt.Errorf("read runtime options: %w", err)
	}
	var p options.Options
	if err := json.Unmarshal(data, &p); err != nil {
		return Options{}, fmt.Errorf("%s is malformed: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	return fromMessage(&p)
}

// message is o as containerd.runc.v1.Options.
func (o Options) message() (*options.Options, error) {
	uid, err := pipeOwner("IoUid", int64(o.IoUID))
	if err != nil {
		return nil, err
	}
	gid, err := pipeOwner("IoGid", int64(o.IoGID))
	if err != nil {
		return nil, err
	}
	return &options.Options{
		NoPivotRoot:   o.NoPivotRoot,
		NoNewKeyring:  o.NoNewKeyring,
		ShimCgroup:    o.ShimCgroup,
		IoUid:         uid,
		IoGid:         gid,
		BinaryName:    o.BinaryName,
		Root:          o.Root,
		SystemdCgroup: o.SystemdCgroup,
		CriuImagePath: o.CriuImagePath,
		CriuWorkPath:  o.CriuWorkPath,
	}, nil
}

func fromMessage(p *options.Options) (Options, error) {
	o := Options{
		NoPivotRoot:   p.GetNoPivotRoot(),
		NoNewKeyring:  p.GetNoNewKeyring(),
		ShimCgroup:    p.GetShimCgroup(),
		IoUID:         int(p.GetIoUid()),
		IoGID:         int(p.GetIoGid()),
		BinaryName:    p.GetBinaryName(),
		Root:          p.GetRoot(),
		SystemdCgroup: p.GetSystemdCgroup(),
		CriuImagePath: p.GetCriuImagePath(),
		CriuWorkPath:  p.GetCriuWorkPath(),
	}
	return o, o.check()
}

// check refuses what no runtime could be run with.
func (o Options) check() error {
	if _, err := pipeOwner("IoUid", int64(o.IoUID)); err != nil {
		return err
	}
	_, err := pipeOwner("IoGid", int64(o.IoGID))
	return err
}
