// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestParseDeadlines(t *testing.T) {
	d, err := ParseDeadlines(" create=5s , drain=250ms,")
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultDeadlines()
	want.Create, want.Drain = 5*time.Second, 250*time.Millisecond
	if d != want {
		t.Errorf("%+v, want %+v", d, want)
	}
	if got := d.String(); got != "create=5s,drain=250ms" {
		t.Errorf("it is told as %q", got)
	}
	if d, err = ParseDeadlines(""); err != nil || d != DefaultDeadlines() || d.String() != "" {
		t.Errorf("nothing is set: %+v, %v", d, err)
	}
}

func TestDeadlinesAreRefused(t *testing.T) {
	for text, says := range map[string]string{
		"create":              "write name=duration",
		"creat=2m":            `no deadline "creat"; there are create, abandon, start`,
		"create=two minutes":  "is no duration",
		"create=5":            "is no duration",
		"create=0s":           "is not within",
		"create=-1s":          "is not within",
		"create=1ms":          "is not within",
		"create=25h":          "is not within",
		"create=1s,create=2s": `"create" is set twice`,
		"=2m":                 `no deadline ""`,
	} {
		_, err := ParseDeadlines(text)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want one that says %q", text, err, says)
		}
	}
}

// Every field has a name and a default, and survives being told to a shim.
func TestEveryDeadline(t *testing.T) {
	var d Deadlines
	fields := reflect.ValueOf(&d).Elem()
	if named := len(d.fields()); named != fields.NumField() {
		t.Fatalf("%d of %d deadlines have a name", named, fields.NumField())
	}
	for i := range fields.NumField() {
		fields.Field(i).SetInt(int64(time.Duration(i+1) * time.Second))
	}
	if back, err := ParseDeadlines(d.String()); err != nil || back != d {
		t.Errorf("%s comes back as %s, %v", d, back, err)
	}
	for _, f := range (Deadlines{}).Table() {
		if f.Default <= 0 || f.Value != f.Default {
			t.Errorf("%s is %v by default %v", f.Name, f.Value, f.Default)
		}
	}
	if got := (Deadlines{}).WithDefaults(); got != DefaultDeadlines() {
		t.Errorf("%+v", got)
	}
}
