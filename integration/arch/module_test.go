// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const modulePath = "github.com/quoin-io/quoin"

// pkg is what "go list" says about one package, built as the shim is.
type pkg struct {
	ImportPath  string
	Dir         string
	Name        string
	Doc         string
	Standard    bool
	GoFiles     []string
	TestGoFiles []string
	XTestGoFiles,
	Imports []string
}

// rel is the package's path within the module.
func (p *pkg) rel() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, modulePath), "/")
}

// module is our packages and all that they need.
type module struct {
	all  map[string]*pkg
	ours []*pkg // sorted by path
}

// load asks the go command once for all tests.
var load = sync.OnceValues(func() (*module, error) {
	cmd := exec.Command("go", "list", "-e", "-deps", "-tags", "no_grpc",
		"-json=ImportPath,Dir,Name,Doc,Standard,GoFiles,TestGoFiles,XTestGoFiles,Imports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m := &module{all: map[string]*pkg{}}
	for dec := json.NewDecoder(out); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, errors.Join(err, cmd.Wait())
		}
		m.all[p.ImportPath] = &p
		if p.ImportPath == modulePath || strings.HasPrefix(p.ImportPath, modulePath+"/") {
			m.ours = append(m.ours, &p)
		}
	}
	slices.SortFunc(m.ours, func(a, b *pkg) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return m, cmd.Wait()
})

func theModule(t *testing.T) *module {
	t.Helper()
	m, err := load()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if len(m.ours) == 0 {
		t.Fatal("go list knows no package of ours")
	}
	return m
}

// within tells whether path is the package or one below it.
func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// chain is the shortest way of imports from one package to the first that bad
// accepts, or nil.
func (m *module) chain(from string, bad func(string) bool) []string {
	cameFrom := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if bad(at) {
			var way []string
			for ; at != ""; at = cameFrom[at] {
				way = append(way, at)
			}
			slices.Reverse(way)
			return way
		}
		p := m.all[at]
		if p == nil {
			continue
		}
		for _, next := range p.Imports {
			if _, seen := cameFrom[next]; !seen {
				cameFrom[next] = at
				queue = append(queue, next)
			}
		}
	}
	return nil
}
