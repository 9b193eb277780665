// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	// logName is the log of the last call that had something to say.
	logName = "log.json"
	// maxLog is how much of a log's end is read, in bytes.
	maxLog = 64 << 10
)

// callLog is the log of one call. Each has a file of its own: calls run at the
// same time (a kill while a delete drains), and the error of one must not be
// reported for another, let alone an old one.
type callLog struct {
	path   string // "" when there is no place for one
	bundle string
}

// newCallLog makes an empty log. When the bundle cannot be written to (it may be
// gone, at a forced delete) there is none, and the runtime logs to its stderr.
func newCallLog(bundle string) *callLog {
	l := &callLog{bundle: bundle}
	if bundle == "" {
		return l
	}
	f, err := os.CreateTemp(bundle, ".log-*.json")
	if err != nil {
		return l
	}
	l.path = f.Name()
	_ = f.Close() // nothing was written
	return l
}

// lastError is the message of the last line that is an error. Lines that are not
// JSON are skipped: the shim's log must survive a runtime's bad one.
func (l *callLog) lastError() string {
	if l.path == "" {
		return ""
	}
	data := readTail(l.path, maxLog)
	last := ""
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		var entry struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
		}
		if json.Unmarshal(line, &entry) != nil {
			continue
		}
		switch entry.Level {
		case "error", "fatal", "panic":
			if msg := strings.TrimSpace(entry.Msg); msg != "" {
				last = msg
			}
		}
	}
	return last
}

// close keeps the log under its well-known name when there is something in it.
func (l *callLog) close() {
	if l.path == "" {
		return
	}
	st, err := os.Stat(l.path)
	if err == nil && st.Size() > 0 && os.Rename(l.path, filepath.Join(l.bundle, logName)) == nil {
		return
	}
	_ = os.Remove(l.path) // the bundle's removal takes what is left
}

// readTail reads at most the last limit bytes of a file; nothing on an error.
func readTail(path string, limit int64) []byte {
	f, err := openRegular(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, st.Size()-limit), limit))
	if err != nil {
		return nil
	}
	return data
}
