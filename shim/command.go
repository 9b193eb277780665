// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/upgrade"
)

// command is the command line that containerd's shim protocol prescribes
// (core/runtime/v2/README.md, "Commands").
type command struct {
	action        string // "start", "delete", "" to serve
	namespace     string
	id            string
	address       string
	publishBinary string
	bundle        string
	socket        string
	debug         bool
	info          bool
	version       bool
	takeoverCheck int // descriptor of an envelope; 0 for none, negative for no check

	stdin          io.Reader
	stdout, stderr io.Writer
}

const usage = `Usage: %s [flags] [start | delete]

The containerd shim of Quoin. containerd and dockerd run it for containers of the
runtime type %s; it is not meant to be run by hand, except for:

  -v            print the version
  -info         print what the shim and its OCI runtime can do, as protobuf; the
                runtime's options are read as protobuf from the standard input

start makes a shim for a task, or finds the one of its pod, and prints its address;
delete cleans up after a task whose shim is gone; without an action it serves.

Flags:
`

func parseCommand(args []string, stdin io.Reader, stdout, stderr io.Writer) (*command, error) {
	c := &command{stdin: stdin, stdout: stdout, stderr: stderr}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(stderr, usage, args[0], config.RuntimeType)
		fs.PrintDefaults()
	}
	fs.BoolVar(&c.debug, "debug", false, "log more")
	fs.BoolVar(&c.version, "v", false, "print the version and exit")
	fs.BoolVar(&c.version, "version", false, "print the version and exit")
	fs.BoolVar(&c.info, "info", false, "print what the shim can do and exit")
	fs.IntVar(&c.takeoverCheck, upgrade.CheckFlag, -1, "say what state of a running shim can be taken over, as JSON, and exit; the state is in the `descriptor`, if it is not 0")
	fs.StringVar(&c.namespace, "namespace", "", "containerd namespace of the task")
	fs.StringVar(&c.id, "id", "", "id of the task")
	fs.StringVar(&c.address, "address", "", "containerd's gRPC socket")
	fs.StringVar(&c.publishBinary, "publish-binary", "", "accepted and not used: events go to the socket in TTRPC_ADDRESS")
	fs.StringVar(&c.bundle, "bundle", "", "bundle to delete, if it is not the working directory's sibling of that id")
	fs.StringVar(&c.socket, "socket", "", "path of a socket to serve, if none is passed as descriptor 3")
	if err := fs.Parse(args[1:]); err != nil {
		return nil, err
	}
	c.action = fs.Arg(0)
	if fs.NArg() > 1 {
		return nil, fmt.Errorf("unexpected arguments %q after %q", fs.Args()[1:], c.action)
	}
	return c, nil
}

// Run is the whole program. It returns the process's exit code.
func Run(ctx context.Context, args []string) int {
	c, err := parseCommand(args, os.Stdin, os.Stdout, os.Stderr)
	if err == flag.ErrHelp {
		return 0
	}
	if err == nil {
		// What a daemon has leaked to us reaches nothing that we start.
		oci.SealDescriptors()
		err = c.run(ctx)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", config.ShimBinary, err)
		return 1
	}
	return 0
}

func (c *command) run(ctx context.Context) error {
	switch {
	case c.version:
		return c.printVersion()
	case c.info:
		return c.printInfo(ctx)
	case c.takeoverCheck >= 0:
		return c.printAnswer()
	case c.namespace == "":
		return fmt.Errorf("the flag -namespace is missing; see -help")
	}
	switch c.action {
	case "start":
		return c.start(ctx)
	case "delete":
		return c.delete(ctx)
	case "":
		return c.serve(ctx)
	}
	return fmt.Errorf("unknown action %q; it is start, delete or none", c.action)
}

func (c *command) printVersion() error {
	_, err := fmt.Fprintf(c.stdout, "%s:\n  Version:  %s\n  Revision: %s\n  Go version: %s\n\n",
		config.ShimBinary, config.Version, config.Revision, runtime.Version())
	return err
}
