// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Core(harness.StockD)...)) }

// newPlace makes a place below the package's directory, which an inner root may
// have to enter too.
func newPlace(t *testing.T, name string, uid int, further string) *Place {
	t.Helper()
	dir := filepath.Join(harness.Base(), name)
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(harness.Base(), 0o711); err != nil {
		t.Fatal(err)
	}
	return NewPlace(t, dir, uid, further)
}
