// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestMoveAnEndOfInputThatATerminalDoesNotTake(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		in, got := mkfifo(t, "in"), filepath.Join(t.TempDir(), "got")
		i := mustOpen(t, Streams{Stdin: in, Terminal: true}, testOptions(t))
		hold, release, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
		master, slave := newPTY(t)
		cmd := exec.Command("/bin/sh", "-c", "stty -echo; read line <&3; exec cat > "+got)
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = slave, slave, slave, []*os.File{hold}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sendFile(t, i, master)
		master.Close()
		slave.Close()
		if err := i.Started(testContext(t)); err != nil {
			t.Fatal(err)
		}
		f := client(t, in)
		want := lines("line ", 3000) // more than a terminal holds
		if _, err := f.WriteString(want); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := i.CloseStdin(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			i = move(t, i)
		}
		if i.stdin.m.over() {
			t.Error("all was taken before it was read")
		}
		if _, err := release.WriteString("go\n"); err != nil {
			t.Fatal(err)
		}
		release.Close()
		// Only one that has got on is moved: who does nothing but rest gets nowhere.
		for size := int64(0); !i.stdin.m.over(); i = move(t, i) {
			eventually(t, "more of the input is taken", func() bool {
				st, err := os.Stat(got)
				if err != nil {
					return false // cat has not begun
				}
				more := st.Size() > size
				size = st.Size()
				return more || i.stdin.m.over()
			})
		}
		waitFor(t, cmd) // by the end of its input
		if text := readLog(t, got); text != want {
			t.Errorf("%d bytes instead of %d", len(text), len(want))
		}
	})
}

func TestMoveStdinFromAFile(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		path, out := filepath.Join(t.TempDir(), "input"), mkfifo(t, "out")
		var text bytes.Buffer
		if err := writePattern(&text, 3, 8<<20, 1<<20); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		i := mustOpen(t, Streams{Stdin: path, Stdout: out}, testOptions(t))
		r := readAll(out)
		cmd := start(t, i, "cat")
		rounds := 0
		for ; !i.stdin.m.over(); rounds++ {
			before := i.stdin.m.position()
			i = move(t, i)
			eventually(t, "some of it was read", func() bool { return i.stdin.m.over() || i.stdin.m.position() > before })
		}
		if rounds < 5 {
			t.Errorf("moved only %d times", rounds)
		}
		waitFor(t, cmd)
		if got := r.wait(t); !bytes.Equal(got, text.Bytes()) {
			t.Errorf("%d bytes that are not those of the file", len(got))
		}
	})
}

// position returns how much has been delivered.
func (m *meter) position() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.delivered
}
