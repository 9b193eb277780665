// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestMetrics: after a known workload the daemon's metrics have the numbers of it,
// those of shims that came and went between two scrapes too; and a shim that is
// stopped neither delays a scrape nor takes its numbers out of it.
func TestMetrics(t *testing.T) {
	if harness.Reference() {
		return // it has no such metrics
	}
	t.Parallel()
	const address = "127.0.0.1:1338" // in the package's own network namespace
	d := harness.Start(t, harness.Spec{Kind: harness.KindQuoind, Name: "metrics", Plugins: map[string]map[string]any{
		"io.containerd.server.v1.metrics": {"address": address},
		"io.quoin.runtime.v1.quoin":       {"per_shim_metrics": true},
	}})
	m := metrics{t, address}
	m.expect("before", map[string]float64{`quoin_shims_count{status="ok"}`: 0, `quoin_shims_exits_total{process="init"}`: 0})

	r := d.Run(t, "counted", harness.Container{Args: []string{"sleep", "1000"}})
	r.RunExec(t, "ok", "true")
	r.RunExec(t, "fails", "sh", "-c", "exit 3")
	for i := range 3 {
		short := d.Run(t, fmt.Sprint("short-", i), harness.Container{Args: []string{"true"}})
		short.AwaitExit(t)
		short.Delete(t)
	}
	const who = `{id="counted",namespace="%s"}`
	m.expect("after the workload", map[string]float64{
		`quoin_shims_count{status="ok"}`:                                   1,
		`quoin_shims_count{status="stuck"}`:                                0,
		`quoin_shims_containers`:                                           1,
		`quoin_shims_exits_total{process="init"}`:                          3,
		`quoin_shims_exits_total{process="exec"}`:                          2,
		`quoin_shims_exits_unknown_total`:                                  0,
		`quoin_shims_reaped_total{kind="process"}`:                         5,
		`quoin_shims_runtime_calls_total{operation="create",outcome="ok"}`: 4,
		`quoin_shims_runtime_calls_total{operation="start",outcome="ok"}`:  4,
		`quoin_shims_runtime_calls_total{operation="exec",outcome="ok"}`:   2,
		`quoin_shims_runtime_calls_total{operation="delete",outcome="ok"}`: 3,
		`quoin_shims_events_queued`:                                        0,
		`quoin_shims_events_dropped_total`:                                 0,
		// Of a container: create, start, exit, delete; of an exec: added, started, exit.
		`quoin_shims_events_delivered_total`:                                         2 + 3*4 + 2*3,
		`quoin_runtime_creates_total{outcome="ok",runtime="io.containerd.quoin.v1"}`: 4,
		fmt.Sprintf("quoin_shim_up"+who, d.Namespace):                                1,
	})

	shim := d.Shim(t, r.ID()).PID
	stopProcess(t, shim)
	watch := harness.StartWatch(t)
	m.scrape()
	// Quoin waits for a second, and containerd's own statistics of tasks for two.
	if took := watch.Took(); took > 5*time.Second {
		t.Errorf("a scrape with a stopped shim took %v", took)
	}
	m.expect("with a stopped shim", map[string]float64{
		`quoin_shims_count{status="ok"}`:              0,
		`quoin_shims_count{status="stuck"}`:           1,
		`quoin_shims_exits_total{process="init"}`:     3,
		`quoin_shims_exits_total{process="exec"}`:     2,
		fmt.Sprintf("quoin_shim_up"+who, d.Namespace): 0,
	})
	continueProcess(t, shim)

	r.Signal(t, syscall.SIGKILL)
	r.AwaitExit(t)
	r.Delete(t)
	m.expect("after all", map[string]float64{
		`quoin_shims_count{status="ok"}`:              0,
		`quoin_shims_containers`:                      0,
		`quoin_shims_memory_bytes{kind="private"}`:    0,
		`quoin_shims_exits_total{process="init"}`:     4,
		`quoin_shims_exits_total{process="exec"}`:     2,
		`quoin_shims_reaped_total{kind="process"}`:    6,
		`quoin_shims_timeouts_total`:                  -1,
		fmt.Sprintf("quoin_shim_up"+who, d.Namespace): -1,
	})
}

// metrics is a daemon's metrics endpoint.
type metrics struct {
	t       *testing.T
	address string
}

// scrape returns the values by series.
func (m metrics) scrape() map[string]float64 {
	m.t.Helper()
	client := http.Client{Timeout: harness.Patience}
	response, err := client.Get("http://" + m.address + "/v1/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		m.t.Fatalf("%s, %v: %s", response.Status, err, text)
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if ok {
			series += "}"
		} else if series, value, ok = strings.Cut(strings.TrimSpace(line), " "); !ok {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			values[series] = v
		}
	}
	return values
}

// expect waits until the series have the values; -1 stands for one that is not
// there. What was counted is told at once, but for events, whose acknowledgement
// is on its way.
func (m metrics) expect(when string, want map[string]float64) {
	m.t.Helper()
	harness.Eventually(m.t, "metrics "+when, func() string {
		got := m.scrape()
		var wrong []string
		for series, value := range want {
			v, ok := got[series]
			if !ok {
				v = -1
			}
			if v != value {
				wrong = append(wrong, fmt.Sprintf("%s is %v, not %v", series, v, value))
			}
		}
		return strings.Join(wrong, "\n")
	})
}
