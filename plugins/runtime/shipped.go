// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"strings"
)

// PreferShipped says whether the runc that came with quoind is to be used in
// place of the machine's, of which the version says that it has known container
// escapes, and why, for the log. A machine's runc that is new enough is used: its
// administrator may mean it. So is one whose version cannot be told, which may be
// another runtime under runc's name, and one that is no worse than the shipped.
// That a distribution has fixed an old release its version does not tell. Whoever
// means such a one names it in BinaryName, which this has no say in.
//
// Both arguments are absolute paths; they are executed, and ctx bounds that.
func PreferShipped(ctx context.Context, machine, shipped string) (prefer bool, why string) {
	v, err := OCIVersion(ctx, machine)
	if err != nil {
		return false, ""
	}
	warning := v.SecurityWarning()
	if warning == "" {
		return false, ""
	}
	own, err := OCIVersion(ctx, shipped)
	if err != nil || own.Name != v.Name || own.SecurityWarning() != "" {
		return false, ""
	}
	return true, strings.TrimSuffix(warning, ": update it")
}
