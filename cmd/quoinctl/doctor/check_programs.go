// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/plugins/runtime"
)

// checkDaemon tells whether one answers, which, and whether it is well.
func checkDaemon(_ context.Context, w *world) Finding {
	return daemonFinding(w).with("address", w.place.Address).with("answers", w.daemon.reach == answers).
		with("version", w.daemon.quoin).with("containerd", w.daemon.containerd).with("pid", w.daemon.pid)
}

func daemonFinding(w *world) Finding {
	d, address := w.daemon, w.place.Address
	const start = "start it: systemctl start quoind, or quoind as root"
	switch d.reach {
	case absent:
		return warning(start, "no quoind runs: there is no %s; what follows from it is computed or left out", address)
	case refused:
		return warning(start, "no quoind runs: nobody listens on %s; what follows from it is computed or left out", address)
	case denied:
		return warning(asRoot, "only root may ask the daemon at %s", address)
	case silent:
		return failure("look at its log; if it hangs, restart it: containers go on", "the daemon at %s does not answer: %v", address, d.err)
	}
	switch {
	case w.settings.err != nil:
		return warning("correct the file, or remove it", "quoind's configuration cannot be read: %v", w.settings.err)
	case len(d.failed) > 0:
		return warning("see its log for these plugins; put those that are not wanted into disabled_plugins",
			"%s answers, but these plugins failed: %s", w.daemon.name(), strings.Join(d.failed, "; "))
	case d.quoin == "":
		return good("containerd %s answers at %s, without Quoin's plugins", d.containerd, address)
	case d.quoin != config.Version:
		return warning("restart quoind (containers go on), or install programs of one version",
			"quoind %s answers at %s, but quoinctl is %s", d.quoin, address, config.Version)
	}
	return good("quoind %s answers at %s", d.quoin, address)
}

// searchPath is where the daemon finds programs: its own PATH if it can be
// seen, then, for quoind, its own directories: that it is in, and ../libexec/quoin.
func (w *world) searchPath() (all, own []string) {
	path, self := w.envPath, w.self
	if w.daemon.pid > 0 {
		if p, set, err := w.daemonVariable("PATH"); err == nil && set {
			path = p
		}
		if exe, err := os.Readlink(w.at("/proc/" + strconv.Itoa(w.daemon.pid) + "/exe")); err == nil {
			self = strings.TrimSuffix(exe, " (deleted)")
		}
	}
	bin := filepath.Dir(self)
	own = []string{bin, filepath.Join(filepath.Dir(bin), "libexec", "quoin")}
	return append(filepath.SplitList(path), own...), own
}

// find returns the executables of a name, the one that is used first.
func (w *world) find(name string) []string {
	var out []string
	var seen []os.FileInfo
	all, _ := w.searchPath()
	for _, dir := range all {
		if !filepath.IsAbs(dir) {
			continue // Go does not execute what such an entry finds
		}
		file := filepath.Join(dir, name)
		st, err := os.Stat(w.at(file))
		if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 ||
			slices.ContainsFunc(seen, func(o os.FileInfo) bool { return os.SameFile(o, st) }) {
			continue
		}
		seen = append(seen, st)
		out = append(out, file)
	}
	return out
}

// checkShim runs the shim that a daemon would run, to ask for its version.
func checkShim(ctx context.Context, w *world) Finding {
	found := w.find(config.ShimBinary)
	if len(found) == 0 {
		return failure("install it (make install) where the daemon's PATH has it, or beside the daemon",
			"%s is neither in PATH nor beside the daemon", config.ShimBinary)
	}
	out, err := w.output(ctx, found[0], "-v")
	if err != nil {
		return failure("install it anew (make install)", "the shim does not run: %v", err).with("path", found[0])
	}
	version, revision := shimVersion(out)
	f := good("%s %s", found[0], version)
	if version != config.Version || revision != config.Revision {
		f = warning("install quoind, quoinctl and the shim of one build (make install)",
			"%s is %s, but quoinctl is %s", found[0], build(version, revision), config.VersionText())
	}
	return f.with("path", found[0]).with("version", version).with("revision", revision)
}

// shimVersion reads what "-v" prints: lines of "Key: value".
func shimVersion(out string) (version, revision string) {
	for line := range strings.Lines(out) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), ":"); key {
		case "Version":
			version = strings.TrimSpace(value)
		case "Revision":
			revision = strings.TrimSpace(value)
		}
	}
	return version, revision
}

func build(version, revision string) string {
	if revision == "" {
		return firstOf(version, "of an unknown version")
	}
	return version + " (revision " + revision + ")"
}

// runtimeNames are the OCI runtimes that are looked for.
var runtimeNames = []string{"runc", "crun", "youki"}

// checkRuntimes has a finding for each that is installed, and one for runc,
// which the shim uses unless told otherwise.
func checkRuntimes(ctx context.Context, w *world) []Finding {
	results := make([]chan []Finding, len(runtimeNames))
	others := 0
	for i, name := range runtimeNames {
		found := w.find(name)
		if len(found) > 0 && i > 0 {
			others++
		}
		results[i] = make(chan []Finding, 1)
		go func() { results[i] <- w.runtimeFindings(ctx, name, found) }()
	}
	var out []Finding
	for i := range results {
		out = append(out, <-results[i]...)
	}
	if out[0].Status == Fail && others > 0 && len(w.find("runc")) == 0 {
		out[0].Status = Warn
		out[0].Fix = "install runc, or name another one in BinaryName of every handler's options"
	}
	return out
}

func (w *world) runtimeFindings(ctx context.Context, name string, found []string) []Finding {
	f := Finding{}
	switch {
	case len(found) > 0:
		f = w.runtimeFinding(ctx, found)
	case name == runtimeNames[0]:
		f = failure("install runc 1.3.6, 1.4.3, 1.5.0 or newer (make install brings one)", "runc is neither in PATH nor beside the daemon")
	default:
		return nil
	}
	f.ID, f.Title = "programs.runtime."+name, name
	return []Finding{f}
}

// preferShipped moves the runc that came with quoind before the machine's where
// quoind does, and says why.
func (w *world) preferShipped(ctx context.Context, found []string) ([]string, string) {
	_, own := w.searchPath()
	for i, file := range found {
		if i == 0 || filepath.Base(file) != runtimeNames[0] || !slices.Contains(own, filepath.Dir(file)) {
			continue
		}
		prefer, why := runtime.PreferShipped(ctx, w.at(found[0]), w.at(file))
		if !prefer {
			break
		}
		return slices.Concat([]string{file}, found[:i], found[i+1:]), fmt.Sprintf(", which quoind uses in place of %s: %s", found[0], why)
	}
	return found, ""
}

func (w *world) runtimeFinding(ctx context.Context, found []string) Finding {
	found, why := w.preferShipped(ctx, found)
	used := found[0]
	v, err := runtime.OCIVersion(ctx, w.at(used))
	if err != nil {
		return failure("install it anew, or take it out of PATH", "%s does not tell its version: %v", used, w.rootless(err)).
			with("paths", found)
	}
	f := good("%s %s%s", used, v.Release, why)
	if why := v.SecurityWarning(); why != "" {
		fix := "update it to 1.3.6, 1.4.3, 1.5.0 or newer"
		if v.Name == "crun" {
			fix = "update it to 1.30 or newer"
		}
		if len(found) > 1 {
			fix += fmt.Sprintf(", or take it out of PATH if %s is newer", found[1])
		}
		f = warning(fix, "%s: %s", used, strings.TrimSuffix(why, ": update it"))
	}
	return f.with("paths", found).with("version", v.Release).with("spec", v.Spec)
}
