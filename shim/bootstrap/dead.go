// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxAddressFile bounds what is read of a bundle's address, in bytes.
const maxAddressFile = 16 << 10

// BundleAddress is the address of the shim that serves a bundle, as the daemon
// noted it: in bootstrap.json since containerd 2.0, in address before.
//
// Errors: errdefs.ErrNotFound when there is no note, errdefs.ErrInvalidArgument
// for one that cannot be read.
func BundleAddress(bundle string) (string, error) {
	data, err := readSmall(filepath.Join(bundle, "bootstrap.json"))
	if err == nil {
		var note struct {
			Address string `json:"address"`
		}
		if err := json.Unmarshal(data, &note); err != nil {
			return "", fmt.Errorf("bootstrap.json of bundle %s: %w: %w", bundle, err, errdefs.ErrInvalidArgument)
		}
		return note.Address, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		data, err = readSmall(filepath.Join(bundle, "address"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("bundle %s names no shim: %w", bundle, errdefs.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("address of the shim of bundle %s: %w", bundle, err)
	}
	return strings.TrimSpace(string(data)), nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxAddressFile))
}

// RemoveDead removes the socket of a shim that was killed. One that is answered
// at stays, and one that is not there is no error.
func RemoveDead(address string) error {
	path, err := socketPath(address)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	if dir, err = lock(dir); err != nil {
		return err
	}
	defer dir.Close() // and unlock
	var inUse *InUseError
	if err := removeDead(path); err != nil && !errors.As(err, &inUse) {
		return err
	}
	return nil
}
