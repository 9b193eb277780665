// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFramesAreLines(t *testing.T) {
	frames := []Frame{
		{Kind: Up, Text: "kernel"},
		{Kind: Output, Index: 2, Data: []byte("two\nlines\x00\xff")},
		{Kind: End, Index: 2, Code: 1, Text: "killed"},
	}
	var out bytes.Buffer
	for _, f := range frames {
		if err := Write(&out, f); err != nil {
			t.Fatal(err)
		}
	}
	var got []Frame
	for line := range strings.Lines(out.String()) {
		var f Frame
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, f)
	}
	if diff := cmp.Diff(frames, got); diff != "" {
		t.Error(diff)
	}
}

func TestBed(t *testing.T) {
	for line, want := range map[string]string{
		"quoin.bed=v2 root=/dev/vda quiet\n": "v2",
		"root=/dev/vda quoin.bed=bare":       "bare",
		"root=/dev/vda quoin.bed= quiet":     "",
		"xquoin.bed=v2":                      "",
	} {
		if got, err := Bed(line); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", line, got, err, want)
		}
	}
}

func TestReadPlan(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadPlan(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing plan: %v", err)
	}
	path := filepath.Join(dir, PlanName("v2"))
	for text, want := range map[string]string{`{`: path, `{"bed":"v2","runs":[{"binary":"a"}]}`: ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := ReadPlan(path)
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
		if want == "" && (err != nil || p.Bed != "v2" || p.Runs[0].Binary != "a") {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
}
