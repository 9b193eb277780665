// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"

	"github.com/quoin-io/quoin/shim/oci"
)

// OCIVersion asks an OCI runtime for its version, by executing it. binary is a
// name in PATH or an absolute path; ctx bounds the call.
func OCIVersion(ctx context.Context, binary string) (oci.Version, error) {
	r, err := oci.New(oci.Config{Binary: binary})
	if err != nil {
		return oci.Version{}, err
	}
	return r.Version(ctx)
}
