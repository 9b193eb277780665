// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// file is a spool with events of these topics.
func file(t testing.TB, topics ...string) []byte {
	t.Helper()
	b := encodeHeader(0)
	for i, topic := range topics {
		payload, err := encodePayload(&item{topic: topic, at: time.Unix(1, 2)}, "ns")
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, encodeRecord(uint64(i+1), classOther, payload)...)
	}
	return b
}

func topics(t *testing.T, records []saved) []string {
	t.Helper()
	var out []string
	for _, r := range records {
		it, _, err := decodePayload(r.payload)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, it.topic)
	}
	return out
}

// TestDamage: what is whole is read, whatever is around it, and the error tells.
func TestDamage(t *testing.T) {
	whole := file(t, "one", "two", "three")
	second := headerSize + (len(whole)-headerSize)/3 - 1 // "three" is longer
	flip := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 0xff
		return b
	}
	for name, tc := range map[string]struct {
		content []byte
		want    []string
		fine    bool
	}{
		"whole":                     {whole, []string{"one", "two", "three"}, true},
		"made and not written":      {nil, nil, true},
		"only a header":             {encodeHeader(0), nil, true},
		"a header cut off":          {encodeHeader(0)[:10], nil, false},
		"something else":            {bytes.Repeat([]byte("x"), 100), nil, false},
		"the last cut off":          {whole[:len(whole)-1], []string{"one", "two"}, false},
		"a beginning of a record":   {append(bytes.Clone(whole), 1, 2, 3), []string{"one", "two", "three"}, false},
		"a wrong byte in the first": {flip(headerSize + recordSize + 2), []string{"two", "three"}, false},
		"a wrong length":            {flip(headerSize + 9), []string{"two", "three"}, false},
		"a wrong mark":              {flip(second + 2), []string{"one", "three"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			records, _, err := decodeSpool(tc.content, "p")
			if got := topics(t, records); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			var corrupt *CorruptError
			if (err == nil) != tc.fine || (err != nil && (!errors.As(err, &corrupt) || !errors.Is(err, errdefs.ErrDataLoss))) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestDone and what was dropped are not read again.
func TestDone(t *testing.T) {
	b := file(t, "one", "two", "three")
	order.PutUint64(b[doneOffset:], 1)
	records, done, err := decodeSpool(b, "p")
	if err != nil || done != 1 || !slices.Equal(topics(t, records), []string{"two", "three"}) {
		t.Errorf("%v, %d, %v", topics(t, records), done, err)
	}
	b[records[0].off+classOffset] = byte(classDropped)
	records, _, err = decodeSpool(b, "p")
	if err != nil || !slices.Equal(topics(t, records), []string{"three"}) {
		t.Errorf("%v, %v", topics(t, records), err)
	}
}

// TestNewer: a spool of a newer shim is left as it is.
func TestNewer(t *testing.T) {
	dir := t.TempDir()
	b := file(t, "one")
	order.PutUint32(b[8:], spoolVersion+1)
	path := filepath.Join(dir, spoolFile)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenLeftover(dir)
	var newer *VersionError
	if !errors.As(err, &newer) || newer.Version != spoolVersion+1 || !errors.Is(err, errdefs.ErrNotImplemented) {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, b) {
		t.Errorf("changed to %q, %v", after, err)
	}
}

// FuzzSpool: no content makes the reader fail otherwise than by its errors, and a
// whole record that follows any content of a spool is found.
func FuzzSpool(f *testing.F) {
	whole := file(f, "one", "two")
	f.Add(whole[headerSize:])
	f.Add(whole[headerSize : len(whole)-5])
	f.Add([]byte("EQv1"))
	f.Add(slices.Concat(whole[headerSize:headerSize+recordSize], whole[headerSize:]))
	f.Fuzz(func(t *testing.T, content []byte) {
		payload, err := encodePayload(&item{topic: "last"}, "ns")
		if err != nil {
			t.Fatal(err)
		}
		const seq = math.MaxUint64 // the records are sorted by it
		b := slices.Concat(encodeHeader(0), content, encodeRecord(seq, classInit, payload))
		records, _, err := decodeSpool(b, "p")
		if len(records) == 0 || records[len(records)-1].seq != seq {
			t.Errorf("the last record is lost: %v", err)
		}
		var corrupt *CorruptError
		if err != nil && !errors.As(err, &corrupt) {
			t.Errorf("error %v", err)
		}
		for _, r := range records {
			if _, _, err := decodePayload(r.payload); err != nil && !errors.Is(err, errdefs.ErrDataLoss) {
				t.Errorf("payload: %v", err)
			}
		}
		_, _, _ = decodeSpool(content, "any") // must return
	})
}
