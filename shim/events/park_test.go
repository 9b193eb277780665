// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// succeed parks p and makes its successor, through what an upgrade passes on.
func succeed(t *testing.T, p *Publisher, dir, address string) *Publisher {
	t.Helper()
	s, err := p.Park(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var passed State
	if err := json.Unmarshal(encoded, &passed); err != nil {
		t.Fatal(err)
	}
	set := defaults()
	set.backoff = backoff{time.Millisecond, 10 * time.Millisecond}
	next, err := resume(Config{Address: address, Namespace: "ns", Dir: dir, Log: quietLog()}, set, passed, func(fd int) (*os.File, error) {
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return os.NewFile(uintptr(copied), "spool"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { crash(next) })
	crash(p) // the old image is gone
	return next
}

// TestSuccessor goes on where the parked one stopped, three times.
func TestSuccessor(t *testing.T) {
	for name, dir := range map[string]string{"with a spool": t.TempDir(), "in memory": ""} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t).start()
			p := inDir(t, dir, d.path, nil)
			publishStarts(p, 0, 10)
			d.await(10)
			d.stop()
			for round := range 3 {
				from := 10 + 10*round
				publishStarts(p, from, from+10)
				p = succeed(t, p, dir, d.path)
				if s := p.Stats(); s.Queued < from || s.Queued > from+1 || s.Delivered < 9 {
					t.Errorf("stats %+v", s)
				}
				p.Unpark()
			}
			d.start()
			p.Wake()
			got := d.await(40)
			if got[10] == TopicStart+" c9" { // whose acknowledgement went with the daemon
				got = append(got[:10:10], d.await(41)[11:]...)
			}
			expect(t, got, TopicStart, 0, 40)
			if err := p.Close(time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestResumeOfGarbage keeps no descriptor.
func TestResumeOfGarbage(t *testing.T) {
	dir := t.TempDir()
	p := inDir(t, dir, newDaemon(t).path, nil)
	publishStarts(p, 0, 1)
	s, err := p.Park(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Memory = []Kept{{Seq: 2, Envelope: []byte("garbage")}}
	var spool *os.File
	_, err = Resume(Config{Dir: dir, Log: quietLog()}, s, func(int) (*os.File, error) {
		var err error
		spool, err = os.Open(spoolPath(dir))
		return spool, err
	})
	if !errors.Is(err, errdefs.ErrDataLoss) {
		t.Errorf("%v", err)
	}
	if err := spool.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the spool is still open: %v", err)
	}
}

// TestParkedSendsNothing, keeps what comes, and goes on.
func TestParkedSendsNothing(t *testing.T) {
	d := newDaemon(t).start()
	p := inDir(t, t.TempDir(), d.path, nil)
	publishStarts(p, 0, 1)
	d.await(1)
	if _, err := p.Park(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Park(t.Context()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("parked twice: %v", err)
	}
	publishStarts(p, 1, 3)
	p.Wake()
	if s := p.Stats(); s.Queued != 2 || s.Delivered != 1 {
		t.Errorf("stats %+v", s)
	}
	p.Unpark()
	expect(t, d.await(3), TopicStart, 0, 3)
}

// TestParkIsBounded: with an event on its way to a daemon that is stopped, parking
// gives up, and nothing is sent twice.
func TestParkIsBounded(t *testing.T) {
	d := newDaemon(t).start()
	hung, goOn := make(chan struct{}, 1), make(chan struct{})
	d.setAnswer(func(context.Context, *types.Envelope) error {
		wake(hung)
		<-goOn
		return nil
	})
	p := inDir(t, t.TempDir(), d.path, nil)
	publishStarts(p, 0, 3)
	<-hung
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Park(ctx); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	close(goOn)
	expect(t, d.await(3), TopicStart, 0, 3)
	if err := p.Close(time.Minute); err != nil {
		t.Fatal(err)
	}
	if s := p.Stats(); s != (Stats{Delivered: 3}) {
		t.Errorf("stats %+v", s)
	}
}

// TestParkDuringAnOutage needs no daemon.
func TestParkDuringAnOutage(t *testing.T) {
	d, dir := newDaemon(t), t.TempDir()
	p := inDir(t, dir, d.path, func(s *settings) { s.backoff = backoff{time.Hour, time.Hour} })
	publishStarts(p, 0, 3)
	next := succeed(t, p, dir, d.path)
	d.start()
	next.Unpark()
	expect(t, d.await(3), TopicStart, 0, 3)
}
