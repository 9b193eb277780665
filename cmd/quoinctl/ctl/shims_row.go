// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/quoin-io/quoin/plugins/runtime/shims"
	"github.com/quoin-io/quoin/shim/control"
)

// shimRow is what is shown of one shim; as JSON, it is the command's interface.
type shimRow struct {
	Namespace string       `json:"namespace"`
	ID        string       `json:"id"`
	Pod       string       `json:"pod,omitempty"`
	Status    shims.Status `json:"status"`
	Error     string       `json:"error,omitempty"`
	Address   string       `json:"address"`
	Version   string       `json:"version,omitempty"`
	Revision  string       `json:"revision,omitempty"`
	// PID, Memory, Started and Uptime (in seconds) are zero when nobody tells.
	PID     int            `json:"pid,omitempty"`
	Memory  control.Memory `json:"memory,omitzero"`
	Started time.Time      `json:"started,omitzero"`
	Uptime  int64          `json:"uptimeSeconds,omitempty"`
	// Containers that it serves: by its own word, else those of its bundles.
	Containers   []control.Container `json:"containers"`
	Goroutines   int                 `json:"goroutines,omitempty"`
	Threads      int                 `json:"threads,omitempty"`
	OpenFiles    int                 `json:"openFiles,omitempty"`
	Orphans      int                 `json:"orphans,omitempty"`
	EventsQueued int                 `json:"eventsQueued,omitempty"`
	Totals       control.Totals      `json:"totals,omitzero"`
}

// shimRows makes rows of reports, sorted by namespace and id.
func shimRows(reports []shims.Report, now time.Time) []shimRow {
	rows := make([]shimRow, 0, len(reports))
	for _, r := range reports {
		row := rowOf(r)
		if !row.Started.IsZero() {
			row.Uptime = max(0, int64(now.Sub(row.Started).Seconds()))
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b shimRow) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ID, b.ID))
	})
	return rows
}

func rowOf(r shims.Report) shimRow {
	who := r.Identify()
	row := shimRow{Namespace: r.Namespace, ID: who.ID, Pod: who.Pod, Status: r.Status, Address: r.Address}
	if r.Status == shims.OK {
		i := r.Info
		row.Version, row.Revision, row.PID, row.Memory, row.Started = i.Version, i.Revision, i.PID, i.Memory, i.Started
		row.Goroutines, row.Threads, row.OpenFiles = i.Goroutines, i.Threads, i.OpenFiles
		row.Orphans, row.EventsQueued, row.Totals = i.Orphans, i.EventsQueued, i.Totals
		row.Containers = i.Containers
		if row.Containers == nil {
			row.Containers = []control.Container{}
		}
		return row
	}
	row.Error = r.Err.Error()
	if p, ok := r.FindProcess(); ok && r.Status != shims.Gone {
		row.PID, row.Memory, row.Started = p.PID, p.Memory, p.Started
	}
	row.Containers = make([]control.Container, 0, len(r.Bundles))
	for _, b := range r.Bundles {
		row.Containers = append(row.Containers, control.Container{ID: b.ID, Bundle: b.Path, Status: "unknown"})
	}
	return row
}

// shimTable prints aligned columns.
func shimTable(w io.Writer, rows []shimRow, wide bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	head := []string{"NAMESPACE", "ID", "POD", "STATUS", "VERSION", "PID", "MEMORY", "CONTAINERS", "UPTIME"}
	if wide {
		head = append(head, "RSS", "THREADS", "FILES", "ORPHANS", "EVENTS", "REVISION")
	}
	writeRow(t, head)
	for _, r := range rows {
		id := r.ID
		if !wide {
			id = shortID(id)
		}
		line := []string{
			r.Namespace, id, or(r.Pod), string(r.Status), or(r.Version), number(r.PID), size(r.Memory.Private),
			strconv.Itoa(len(r.Containers)), r.age(),
		}
		if wide {
			line = append(line, size(r.Memory.RSS), number(r.Threads), number(r.OpenFiles))
			if r.Status == shims.OK {
				line = append(line, strconv.Itoa(r.Orphans), strconv.Itoa(r.EventsQueued))
			} else {
				line = append(line, "-", "-")
			}
			line = append(line, or(r.Revision))
		}
		writeRow(t, line)
	}
	return t.Flush()
}

// writeRow writes to a tabwriter, which keeps errors for Flush.
func writeRow(w io.Writer, cells []string) {
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

func (r shimRow) age() string {
	if r.Started.IsZero() {
		return "-"
	}
	return duration(time.Duration(r.Uptime) * time.Second)
}

// shortID cuts ids that CRI makes, of 64 hexadecimal digits, as crictl does.
func shortID(id string) string {
	if len(id) == 64 && strings.Trim(id, "0123456789abcdef") == "" {
		return id[:13]
	}
	return id
}

func or(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// size is in binary units: shims are small.
func size(bytes uint64) string {
	switch {
	case bytes == 0:
		return "-"
	case bytes < 10<<20:
		return fmt.Sprintf("%.1fMiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%dMiB", bytes>>20)
}

// duration shows the two largest units.
func duration(d time.Duration) string {
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.size {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.size, u.name)
		if i+1 < len(units) {
			next := units[i+1]
			text += fmt.Sprintf("%d%s", d%u.size/next.size, next.name)
		}
		return text
	}
	return "0s"
}
