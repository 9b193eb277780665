// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"testing"
	"time"
)

func TestFiles(t *testing.T) {
	const root, state, bundles, sockets, socket, ttrpc = "files.root", "files.state", "files.bundles", "files.shim_sockets", "files.socket", "files.ttrpc"
	const socketPath = "/run/quoind/quoind.sock"
	own := func(path string, uid, gid int) func(*testing.T, fixture) {
		return func(t *testing.T, f fixture) { must(t, os.Lchown(f.at(path), uid, gid)) }
	}
	listening := func(mode os.FileMode, gid int) func(*testing.T, fixture) {
		return func(t *testing.T, f fixture) {
			f.deadlines.gather = 300 * time.Millisecond // nobody answers
			f.listen(t, socketPath)
			must(t, os.Chown(f.at(socketPath), 0, gid))
			must(t, os.Chmod(f.at(socketPath), mode))
		}
	}
	for name, s := range map[string]scenario{
		"good":           {id: root, want: OK, message: "0700"},
		"open":           {id: root, files: file("/var/lib/quoind/", "0711"), want: Fail, fix: "chmod 700 /var/lib/quoind"},
		"not there":      {id: root, files: file("/var/lib/quoind/", gone), want: OK, message: "not there yet"},
		"of another":     {id: root, change: own("/var/lib/quoind", 1234, 0), want: Fail, message: "user 1234", fix: "chown"},
		"dangling":       {id: root, files: file("/var/lib/quoind/", gone, "/var/lib/quoind", "-> nowhere"), alone: true, want: Fail, message: "leads nowhere"},
		"linked":         {id: root, files: file("/data/", "0700", "/var/lib/quoind/", gone, "/var/lib/quoind", "-> ../../data"), want: OK},
		"a file":         {id: root, files: file("/var/lib/quoind/", gone, "/var/lib/quoind", "x"), alone: true, want: Fail, message: "not a directory"},
		"0711":           {id: state, want: OK},
		"readable":       {id: state, files: file("/run/quoind/", "0755"), want: Warn, fix: "chmod 711 /run/quoind"},
		"writable":       {id: state, files: file("/run/quoind/", "0777"), want: Fail},
		"bundles":        {id: bundles, want: OK},
		"their writable": {id: bundles, files: file("/run/quoind/io.containerd.runtime.v2.task/", "0733"), want: Fail},
		"private":        {id: sockets, want: OK},
		"visible":        {id: sockets, files: file("/run/quoind/s/", "0711"), want: Warn},
		"shared":         {id: sockets, files: file("/run/quoind/s/", "0770"), want: Fail, message: "in place of a shim"},
		"0660":           {id: socket, want: OK},
		"of a group":     {id: socket, alone: true, change: listening(0o660, 77), want: OK, message: "members of group 77"},
		"world":          {id: socket, alone: true, change: listening(0o666, 0), want: Fail, message: "everybody can be root", fix: "chmod 660"},
		"no socket":      {id: socket, alone: true, files: file(socketPath, "x"), want: Fail, message: "not a socket"},
		"ttrpc":          {id: ttrpc, want: OK},
		"not made":       {id: ttrpc, alone: true, want: OK, message: "not there yet"},
	} {
		check1(t, name, s)
	}
}
