// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"bufio"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const gateSocket = "gate"

// Gate stops a step before its work, each time, until it is opened.
type Gate struct {
	reached chan struct{}
	open    chan struct{}
	once    sync.Once
}

// Reached gets a value each time the step arrives at the gate.
func (g *Gate) Reached() <-chan struct{} { return g.reached }

// Open lets the step pass, those that wait and all later ones.
func (g *Gate) Open() { g.once.Do(func() { close(g.open) }) }

// Gate puts a gate before the step. It is opened when the test ends, at the latest.
func (f *Fake) Gate(step string) *Gate {
	f.t.Helper()
	g := &Gate{reached: make(chan struct{}, 1024), open: make(chan struct{})}
	f.gates.mu.Lock()
	defer f.gates.mu.Unlock()
	if f.gates.byStep == nil {
		f.gates.byStep = map[string]*Gate{}
	}
	f.gates.byStep[step] = g
	if err := os.WriteFile(gatePath(f.dir, step), nil, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return g
}

// gates is the test's side: each step that has a gate connects, says its name, and
// goes on when the connection ends.
type gates struct {
	listener net.Listener
	mu       sync.Mutex
	byStep   map[string]*Gate
	wg       sync.WaitGroup
}

func listen(dir string) (*gates, error) {
	l, err := net.Listen("unix", filepath.Join(dir, gateSocket))
	if err != nil {
		return nil, err
	}
	g := &gates{listener: l}
	g.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			g.wg.Go(func() { g.hold(conn) })
		}
	})
	return g, nil
}

func (g *gates) hold(conn net.Conn) {
	defer conn.Close()
	step, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return // it was killed
	}
	g.mu.Lock()
	gate := g.byStep[strings.TrimSpace(step)]
	g.mu.Unlock()
	if gate == nil {
		return
	}
	gate.reached <- struct{}{}
	<-gate.open
}

func (g *gates) close() {
	if g == nil {
		return
	}
	_ = g.listener.Close() // the socket goes with its directory
	g.mu.Lock()
	for _, gate := range g.byStep {
		gate.Open()
	}
	g.mu.Unlock()
	g.wg.Wait()
}

// passGate is the fake's side.
func passGate(dir, step string) error {
	if _, err := os.Stat(gatePath(dir, step)); err != nil {
		return nil // there is none
	}
	conn, err := net.Dial("unix", filepath.Join(dir, gateSocket))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(step + "\n")); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		return errors.New("the gate said something")
	}
	return nil
}

func gatePath(dir, step string) string { return filepath.Join(dir, "gate-"+step) }
