// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// kind says what a client named for a stream.
type kind int

const (
	kindNone     kind = iota // "": the stream is /dev/null
	kindPath                 // a plain path: a named pipe, or something to append to
	kindFIFO                 // fifo://: must be a named pipe
	kindFile                 // file://: created and appended to
	kindBinary               // binary://: a logger, ready at a byte or at EOF
	kindBinaryV2             // binary-v2://: a logger, ready at a byte only
)

// target is one parsed stream name.
type target struct {
	kind kind
	path string   // absolute; of the program for a logger
	args []string // of a logger
}

// logger reports whether t names a logging program.
func (t target) logger() bool { return t.kind == kindBinary || t.kind == kindBinaryV2 }

// schemes are those that a stream's URI may have.
var schemes = map[string]kind{
	"fifo":      kindFIFO,
	"file":      kindFile,
	"binary":    kindBinary,
	"binary-v2": kindBinaryV2,
}

// parseTarget reads the name of a stream. What begins with a slash is a path
// as it stands, whatever characters it has; everything else is a URI. All
// errors are errdefs.ErrInvalidArgument.
func parseTarget(value string) (target, error) {
	switch {
	case value == "":
		return target{}, nil
	case strings.ContainsRune(value, 0):
		return target{}, fmt.Errorf("%q has a NUL byte: %w", value, errdefs.ErrInvalidArgument)
	case value[0] == '/':
		return target{kind: kindPath, path: value}, nil
	}
	u, err := url.Parse(value)
	if err != nil {
		return target{}, fmt.Errorf("cannot parse as a URI: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if u.Scheme == "" {
		return target{}, fmt.Errorf("%q is neither an absolute path nor a URI: %w", value, errdefs.ErrInvalidArgument)
	}
	k, ok := schemes[u.Scheme]
	if !ok {
		return target{}, fmt.Errorf("unknown STDIO scheme %q in %q (known: fifo, file, binary, binary-v2): %w", u.Scheme, value, errdefs.ErrInvalidArgument)
	}
	if u.Host != "" || !filepath.IsAbs(u.Path) || strings.ContainsRune(u.Path, 0) {
		return target{}, fmt.Errorf("%q must name an absolute path, as %s:///path: %w", value, u.Scheme, errdefs.ErrInvalidArgument)
	}
	t := target{kind: k, path: u.Path}
	if t.logger() {
		if t.args, err = queryArgs(u.RawQuery); err != nil {
			return target{}, fmt.Errorf("arguments in %q: %w", value, err)
		}
	}
	return t, nil
}

// queryArgs turns a URI's query into a logger's arguments: for each key the key
// and its first value, which is empty when there is none. That is how
// containerd's client encodes them (client/cio LogURIGenerator) and the runc
// shim decodes them; unlike there, they keep the order of the URI.
func queryArgs(query string) ([]string, error) {
	var args, seen []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(rawKey)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w: %w", rawKey, err, errdefs.ErrInvalidArgument)
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return nil, fmt.Errorf("value %q: %w: %w", rawValue, err, errdefs.ErrInvalidArgument)
		}
		if strings.ContainsRune(key, 0) || strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("%q has a NUL byte: %w", pair, errdefs.ErrInvalidArgument)
		}
		if slices.Contains(seen, key) {
			continue
		}
		seen = append(seen, key)
		args = append(args, key, value)
	}
	return args, nil
}

// plan is what the three names of a process mean together.
type plan struct {
	stdin, stdout, stderr target
}

// newPlan parses s. A terminal has no stderr of its own. A logger named as
// stdout takes both streams whatever stderr says, as in the runc shim.
func newPlan(s Streams) (plan, error) {
	var p plan
	for _, f := range []struct {
		name, value string
		to          *target
	}{{"stdin", s.Stdin, &p.stdin}, {"stdout", s.Stdout, &p.stdout}, {"stderr", s.Stderr, &p.stderr}} {
		t, err := parseTarget(f.value)
		if err != nil {
			return plan{}, fmt.Errorf("%s: %w", f.name, err)
		}
		*f.to = t
	}
	if p.stdin.logger() {
		return plan{}, fmt.Errorf("stdin %q: a logger cannot be read from: %w", s.Stdin, errdefs.ErrInvalidArgument)
	}
	if s.Terminal || p.stdout.logger() {
		p.stderr = target{}
	}
	if p.stderr.logger() {
		return plan{}, fmt.Errorf("stderr %q: a logger takes both streams, name it as stdout: %w", s.Stderr, errdefs.ErrInvalidArgument)
	}
	return p, nil
}
