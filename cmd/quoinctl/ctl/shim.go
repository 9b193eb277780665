// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/quoin-io/quoin/config"
)

// findShim fills in --shim-address for "shim --id": ctr computes the socket's
// name from containerd's own directory and the container's id, which is wrong
// for quoind's directory and for the second container of a pod. The bundle says
// what the address is.
func findShim(ctx context.Context, cmd *cli.Command) (context.Context, error) {
	id := cmd.String("id")
	if id == "" || cmd.String("shim-address") != "" {
		return ctx, nil
	}
	state := filepath.Dir(cmd.String("address"))
	address, err := bootstrapAddress(state, cmd.String("namespace"), id)
	if errors.Is(err, fs.ErrNotExist) {
		return ctx, nil // another state directory: leave it to ctr's guess
	}
	if err != nil {
		return ctx, err
	}
	return ctx, cmd.Set("shim-address", address)
}

// bootstrapAddress reads the address of a container's shim from the bundle that
// the daemon keeps in its state directory.
func bootstrapAddress(state, namespace, id string) (string, error) {
	path := filepath.Join(state, config.BundlesDir, namespace, id, "bootstrap.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the address of the shim of %q: %w", id, err)
	}
	var bootstrap struct {
		Address string `json:"address"`
	}
	if err := json.Unmarshal(text, &bootstrap); err != nil {
		return "", fmt.Errorf("reading the address of the shim of %q: %s: %w", id, path, err)
	}
	if bootstrap.Address == "" {
		return "", fmt.Errorf("reading the address of the shim of %q: %s names none", id, path)
	}
	return bootstrap.Address, nil
}
