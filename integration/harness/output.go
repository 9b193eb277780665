// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Output collects what a stream delivers; it is safe for concurrent use.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String is all that was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Await waits until the output contains want.
func (o *Output) Await(t testing.TB, want string) {
	t.Helper()
	Eventually(t, fmt.Sprintf("output contains %q", want), func() string {
		if got := o.String(); !strings.Contains(got, want) {
			return fmt.Sprintf("%q", got)
		}
		return ""
	})
}
