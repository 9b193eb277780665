// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// trend is a series of measurements of something that has to stay as it is.
type trend struct {
	what string
	unit string
	// may is how much it may grow in the time that is judged: what caches, pools and
	// the heap's pace need, and far less than a leak of one per cycle would make.
	may     float64
	samples []sample
}

type sample struct {
	at    time.Duration
	value float64
}

func (tr *trend) add(at time.Duration, value float64) {
	tr.samples = append(tr.samples, sample{at, value})
}

// judged leaves out the warm-up: the first third.
func (tr *trend) judged() []sample { return tr.samples[len(tr.samples)/3:] }

// slope is the median of the slopes between all pairs of samples, per second
// (Theil and Sen): up to 29 % of the samples may be anything, such as the moment
// before a collection, or one at which the machine was busy.
func slope(samples []sample) float64 {
	var slopes []float64
	for i, a := range samples {
		for _, b := range samples[i+1:] {
			if d := (b.at - a.at).Seconds(); d > 0 {
				slopes = append(slopes, (b.value-a.value)/d)
			}
		}
	}
	return median(slopes)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// growth is what the slope makes in the time that is judged.
func (tr *trend) growth() float64 {
	s := tr.judged()
	if len(s) < 2 {
		return math.NaN()
	}
	return slope(s) * (s[len(s)-1].at - s[0].at).Seconds()
}

func (tr *trend) middle() float64 {
	var values []float64
	for _, s := range tr.judged() {
		values = append(values, s.value)
	}
	return median(values)
}

func (tr *trend) String() string {
	return fmt.Sprintf("%-24s %9.1f %-6s grew by %+8.2f, may grow by %.2f (%d samples)", tr.what, tr.middle(), tr.unit, tr.growth(), tr.may, len(tr.judged()))
}

// flat says whether it stays as it is; too few samples say nothing.
func (tr *trend) flat() bool {
	return len(tr.judged()) >= minSamples && tr.growth() <= tr.may
}

// minSamples are those from which a trend is judged.
const minSamples = 15

// TestTrend keeps the judge honest: it sees a leak of one in five cycles, and none in
// what only goes up and down.
func TestTrend(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, tc := range []struct {
		name string
		at   func(i int) float64
		flat bool
	}{
		{"constant", func(int) float64 { return 7 }, true},
		{"noise", func(int) float64 { return 100 + 20*random.Float64() }, true},
		{"saw of a heap", func(i int) float64 { return 100 + float64(i%9)*5 }, true},
		{"step while warming up", func(i int) float64 { return 10 + 100*float64(min(i, 20)) }, true},
		{"outliers at the end", func(i int) float64 { return 10 + 1000*float64(i/75) }, true},
		{"leak", func(i int) float64 { return 10 + float64(i/5) }, false},
		{"leak in noise", func(i int) float64 { return 100 + 20*random.Float64() + float64(i) }, false},
		{"leak in a saw", func(i int) float64 { return 100 + float64(i%9)*5 + float64(i) }, false},
	} {
		tr := &trend{what: tc.name, may: 5}
		for i := range 80 {
			tr.add(time.Duration(i)*time.Second, tc.at(i))
		}
		if tr.flat() != tc.flat {
			t.Errorf("flat: %t; %v", tr.flat(), tr)
		}
	}
	few := &trend{may: 5}
	for i := range minSamples {
		few.add(time.Duration(i), 1)
	}
	if few.flat() {
		t.Error("a judgement of too few samples")
	}
}
