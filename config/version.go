// SPDX-License-Identifier: Apache-2.0

package config

// Version and Revision are what "make" stamps into every program by the
// linker's -X; nothing assigns them at run time.
var (
	// Version is Quoin's release, such as "0.1.0", without a leading v.
	Version = "0.1.0+unknown"
	// Revision is the commit that was built, followed by ".m" when the work
	// tree had changes; empty when git did not know it.
	Revision = ""
)

// VersionText is how Quoin's programs name their build, such as
// "0.1.0 (revision 3f2a968)".
func VersionText() string {
	if Revision == "" {
		return Version
	}
	return Version + " (revision " + Revision + ")"
}
