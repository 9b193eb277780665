// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/plugins/cgroupdriver"
)

// checkDriver tells the node's decision, who made it, and why.
func checkDriver(_ context.Context, w *world) Finding {
	n := w.node
	var f Finding
	switch {
	case n.decideErr != nil:
		return failure("set driver = \"auto\" in [plugins.'io.quoin.node.v1.cgroupdriver'], or make possible what it asks for",
			"quoind would not start: %v", n.decideErr).with("source", n.source.String())
	case n.source == byQuoind:
		f = good("%s, as quoind decided: %s", n.driver, n.reasons)
	case n.source == byShim:
		f = good("%s, as a Quoin shim decides under stock containerd: %s", n.driver, n.reasons)
	default:
		f = good("%s, computed on the spot, since no quoind answers: %s", n.driver, n.reasons)
	}
	record := filepath.Join(w.place.State, cgroupdriver.StateDir)
	if n.source == onTheSpot && w.euid != 0 && w.exists(record) {
		f.Status, f.Fix = Warn, asRoot
		f.Message += "; what was decided earlier in this boot, which would count, only root can see"
	}
	configured := string(w.settings.driver)
	switch running := w.daemon.driver["setting"]; {
	case n.warnings != "":
		f.Status, f.Fix = Warn, n.warnings
	case n.source == byQuoind && running != configured && w.host.address == "":
		f.Status = Warn
		f.Fix = "drain the node and restart quoind, or take the setting back"
		f.Message += fmt.Sprintf("; the configuration now says driver = %q, quoind was started with %q", configured, running)
	}
	return f.with("driver", n.driver).with("reasons", n.reasons).with("source", n.source.String())
}

func (s source) String() string {
	switch s {
	case byQuoind:
		return "quoind"
	case byShim:
		return "shim"
	}
	return "computed"
}

// checkShapes counts the running containers whose cgroupsPath is not of the
// node's driver. It reads their bundles, so it needs no daemon.
func checkShapes(_ context.Context, w *world) Finding {
	if w.node.driver == "" {
		return warning("settle the cgroup driver first", "not compared: there is no driver to compare with")
	}
	bundles, err := w.bundles()
	if errors.Is(err, fs.ErrPermission) {
		return warning(asRoot, "the bundles below %s cannot be read", w.place.State)
	}
	if err != nil {
		return warning("look at "+w.place.State, "the bundles below %s cannot be read: %v", w.place.State, err)
	}
	var astray []string
	for _, b := range bundles {
		d, err := w.node.facts.Disagreement(b.cgroupsPath, w.node.driver)
		if d != nil || err != nil {
			astray = append(astray, b.name)
		}
	}
	f := good("none runs below %s", w.place.State)
	switch {
	case len(astray) > 0:
		f = warning("make the clients that created them use the "+w.node.driver+" driver too, and create them anew",
			"%d of %d have a cgroup path of the other driver: %s", len(astray), len(bundles), some(astray))
	case len(bundles) > 0:
		f = good("all %d have cgroup paths of the %s driver", len(bundles), w.node.driver)
	}
	return f.with("running", len(bundles)).with("mismatched", len(astray))
}

// bundle is that of one running task.
type bundle struct{ name, cgroupsPath string }

func (w *world) bundles() ([]bundle, error) {
	top := filepath.Join(w.place.State, config.BundlesDir)
	namespaces, err := os.ReadDir(w.at(top))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, pathless(err)
	}
	var out []bundle
	for _, ns := range namespaces {
		ids, err := os.ReadDir(w.at(filepath.Join(top, ns.Name())))
		if errors.Is(err, fs.ErrPermission) {
			return nil, pathless(err)
		}
		for _, id := range ids {
			text, err := w.read(filepath.Join(top, ns.Name(), id.Name(), "config.json"))
			if errors.Is(err, fs.ErrPermission) {
				return nil, err
			}
			var spec struct {
				Linux struct {
					CgroupsPath string `json:"cgroupsPath"`
				} `json:"linux"`
			}
			if err != nil || json.Unmarshal([]byte(text), &spec) != nil {
				continue // it ended while we looked, or is a sandbox without a spec
			}
			out = append(out, bundle{ns.Name() + "/" + id.Name(), spec.Linux.CgroupsPath})
		}
	}
	return out, nil
}

// some names the first few.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:few], ", ") + ", …"
}

// glob returns the files of the host that match, sorted.
func (h *host) glob(pattern string) []string {
	found, err := filepath.Glob(h.at(pattern))
	if err != nil {
		return nil // only for a malformed pattern
	}
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], h.root)
	}
	slices.Sort(found)
	return found
}
