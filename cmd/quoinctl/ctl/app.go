// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"

	"github.com/containerd/containerd/v2/cmd/ctr/app"
	"github.com/containerd/containerd/v2/defaults"
	ctrdversion "github.com/containerd/containerd/v2/version"
	"github.com/urfave/cli/v3"

	"github.com/quoin-io/quoin/cmd/quoinctl/doctor"
	"github.com/quoin-io/quoin/config"
)

const usage = "ctr for quoind"

const description = `
quoinctl has all of ctr's commands. What differs is defaults: it talks to
quoind's socket (--address, or CONTAINERD_ADDRESS) and creates containers with
Quoin's runtime (--runtime). ctr's options --runc-binary, --runc-root and
--runc-systemd-cgroup work for that runtime as they do for runc's. "quoinctl doctor"
says what is wrong with this node, and "quoinctl shims" looks at its shims.`

// App returns quoinctl's command line. ctr's commands are variables of its
// packages, so call it once in a process.
func App() *cli.Command {
	root := app.New()
	root.Name = "quoinctl"
	root.Usage = usage
	root.Description = description
	root.Version = fmt.Sprintf("%s, containerd %s", config.VersionText(), ctrdversion.Version)
	setDefault(root.Flags, "address", defaults.DefaultAddress, config.DefaultDaemon().Address)
	walk(root, func(cmd *cli.Command) {
		setDefault(cmd.Flags, "runtime", defaults.DefaultRuntime, config.RuntimeType)
	})
	wrap(root, []string{"run"}, runWithRuncOptions)
	wrap(root, []string{"containers", "create"}, createWithRuncOptions)
	find(root, "shim").Before = findShim
	root.Commands = append(root.Commands, doctor.Command(), shimsCommand())
	return root
}

// setDefault changes the default of the string flag name where it is still
// what ctr ships.
func setDefault(flags []cli.Flag, name, from, to string) {
	for _, f := range flags {
		if f, ok := f.(*cli.StringFlag); ok && f.Name == name && f.Value == from {
			f.Value = to
		}
	}
}

// walk visits cmd and all commands below it.
func walk(cmd *cli.Command, visit func(*cli.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands {
		walk(sub, visit)
	}
}

// find returns the command at path below cmd. A missing one is a programming
// error that the tests see at once: it yields an empty command.
func find(cmd *cli.Command, path ...string) *cli.Command {
	for _, name := range path {
		var next *cli.Command
		for _, sub := range cmd.Commands {
			if sub.Name == name {
				next = sub
			}
		}
		if next == nil {
			return &cli.Command{}
		}
		cmd = next
	}
	return cmd
}

// wrap makes the command at path use own where ctr's action would refuse or
// ignore the options for runc.
func wrap(root *cli.Command, path []string, own cli.ActionFunc) {
	cmd := find(root, path...)
	cmd.Action = choose(cmd.Action, own)
}
