// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// client opens stdin for writing as a client does.
func client(t *testing.T, path string) *os.File {
	t.Helper()
	var f *os.File
	eventually(t, "stdin has a reader", func() (ok bool) {
		var err error
		f, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		return err == nil
	})
	return f
}

func TestStdinOutlivesItsClient(t *testing.T) {
	checkLeaks(t)
	in, out := mkfifo(t, "in"), mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdin: in, Stdout: out}, testOptions(t))
	r := readAll(out)
	cmd := start(t, i, "cat")
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MiB
	for range 3 {                                          // three clients in turn
		f := client(t, in)
		if _, err := f.Write(big); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := i.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	if err := i.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, cmd)
	mustDrain(t, i)
	if got := r.wait(t); !bytes.Equal(got, bytes.Repeat(big, 3)) {
		t.Errorf("%d bytes came back", len(got))
	}
}

func TestDrainWithoutCloseStdin(t *testing.T) {
	checkLeaks(t)
	in, out := mkfifo(t, "in"), mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdin: in, Stdout: out}, testOptions(t))
	r := readAll(out)
	cmd := start(t, i, "read line; echo got $line")
	f := client(t, in)
	if _, err := f.WriteString("it\nand more that nobody reads\n"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, cmd)
	mustDrain(t, i)
	if got := string(r.wait(t)); got != "got it\n" {
		t.Errorf("%q", got)
	}
	mustClose(t, i)
	if _, err := f.WriteString("x"); err == nil {
		t.Error("the client can still write")
	}
	f.Close()
}

func TestClientLearnsThatStdinIsNotRead(t *testing.T) {
	checkLeaks(t)
	in := mkfifo(t, "in")
	i := mustOpen(t, Streams{Stdin: in}, testOptions(t))
	cmd := start(t, i, "exec <&-; exit 0")
	waitFor(t, cmd)
	f := client(t, in)
	defer f.Close()
	eventually(t, "EPIPE", func() bool {
		_, err := f.WriteString("x")
		return err != nil
	})
}

func TestStdinFromAFile(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "in put%20")
	want := bytes.Repeat([]byte("line\n"), 100000)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdin: path, Stdout: out}, testOptions(t))
	r := readAll(out)
	waitFor(t, start(t, i, "cat"))
	if got := r.wait(t); !bytes.Equal(got, want) {
		t.Errorf("%d bytes", len(got))
	}
}

func TestCloseStdinBeforeStarted(t *testing.T) {
	checkLeaks(t)
	in := mkfifo(t, "in")
	i := mustOpen(t, Streams{Stdin: in}, testOptions(t))
	if err := i.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, start(t, i, "cat"))
}
