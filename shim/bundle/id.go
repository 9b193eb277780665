// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/containerd/errdefs"
)

// maxID leaves room for ".pid" within NAME_MAX (255 bytes).
const maxID = 250

// CheckID refuses an id of a container or an exec that cannot be one safe path
// component and one safe command line argument. It allows all that containerd's
// pkg/identifiers allows, and more (containerd has checked it by its own, tighter
// rule; another client of the shim may not).
//
// Errors: errdefs.ErrInvalidArgument.
func CheckID(id string) error {
	reason := ""
	switch {
	case id == "":
		reason = "it is empty"
	case len(id) > maxID:
		return fmt.Errorf("id %q… is too long (%d bytes, the limit is %d): %w",
			strings.ToValidUTF8(id[:32], "?"), len(id), maxID, errdefs.ErrInvalidArgument)
	case !utf8.ValidString(id):
		reason = "it is not UTF-8"
	case strings.ContainsRune(id, '/'):
		reason = "it contains a path separator"
	case strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f }):
		reason = "it contains a control character"
	case id[0] == '.':
		reason = "it begins with a dot" // "." and ".." too, and the bundle's own hidden files
	case id[0] == '-':
		reason = "it begins with a dash" // would be taken for an option of the OCI runtime
	default:
		return nil
	}
	return fmt.Errorf("id %q cannot be used: %s: %w", id, reason, errdefs.ErrInvalidArgument)
}
