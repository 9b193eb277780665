// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

func TestOCIVersion(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "runc")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\necho runc version 1.4.2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	v, err := OCIVersion(t.Context(), binary)
	if err != nil || v.Name != "runc" || v.Release != "1.4.2" || v.SecurityWarning() == "" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := OCIVersion(t.Context(), "./runc"); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}
