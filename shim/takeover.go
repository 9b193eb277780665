// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/upgrade"
)

// takeover is what an image goes on with.
type takeover struct {
	state
	inherited *upgrade.Inherited
	// cause is why it is the guardian that goes on; nil for a new image.
	cause error
}

// readEnvelope takes what an earlier image has handed on.
func readEnvelope(fd int) (*takeover, error) {
	f := os.NewFile(uintptr(fd), "envelope")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, errdefs.ErrInvalidArgument)
	}
	defer f.Close()
	t, err := decodeEnvelope(f)
	if err != nil {
		return nil, err
	}
	if t.inherited, err = upgrade.Take(t.fds()); err != nil {
		return nil, err
	}
	return t, nil
}

func decodeEnvelope(f *os.File) (*takeover, error) {
	e, err := upgrade.Open(f)
	if err != nil {
		return nil, err
	}
	t := &takeover{}
	if err := e.Decode(&t.state); err != nil {
		return nil, err
	}
	return t, t.check()
}

// check says what contradicts itself, as far as that can be seen without the
// descriptors.
func (s *state) check() error {
	bad := func(what string) error { return fmt.Errorf("the envelope's %s: %w", what, errdefs.ErrInvalidArgument) }
	switch {
	case s.PID <= 0:
		return bad("pid")
	case !filepath.IsAbs(s.Socket):
		return bad("socket")
	}
	seen := make(map[int]bool)
	for _, fd := range s.fds() {
		if fd <= unix.Stderr || seen[fd] {
			return bad(fmt.Sprintf("descriptor %d", fd))
		}
		seen[fd] = true
	}
	for i := range s.Containers {
		if err := s.Containers[i].Check(); err != nil {
			return fmt.Errorf("the envelope's container %q: %w", s.Containers[i].ID, err)
		}
	}
	for _, c := range s.Connections {
		if _, err := upgrade.Resume(nil, c, nil); err != nil {
			return fmt.Errorf("the envelope's connections: %w", err)
		}
	}
	return nil
}

// printAnswer answers upgrade.CheckFlag: it says what this build can take over, and,
// of an envelope that it was given, whether it can.
func (c *command) printAnswer() error {
	failpoint("check")
	a := upgrade.Answer{Versions: upgrade.Versions(), Version: config.Version, Revision: config.Revision}
	if c.takeoverCheck > 0 {
		f := os.NewFile(uintptr(c.takeoverCheck), "envelope")
		defer f.Close()
		if _, err := decodeEnvelope(f); err != nil {
			return err
		}
		a.Envelope = true
	}
	return json.NewEncoder(c.stdout).Encode(a)
}

// takeOver serves as the next image of a shim.
func (c *command) takeOver(ctx context.Context, t *takeover, signals <-chan os.Signal) error {
	// The kernel takes the name from the descriptor that was executed.
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0) // for ps alone
	if err := c.setUpLog(t.Log); err != nil {
		return err
	}
	s, err := c.newServer(ctx, t)
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	failpoint("taken")
	if t.cause == nil {
		if err := confirm(t); err != nil {
			return fmt.Errorf("take over: %w", err)
		}
	}
	failpoint("confirmed")
	defer s.close()
	s.goOn(t)
	return s.run(ctx, signals)
}

// listener is the one that the earlier image has listened with.
func (t *takeover) listener() (*net.UnixListener, error) {
	f, err := t.inherited.File(t.Listener)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return listenerBy(f)
}

// confirm tells the guardian that this image can go on, and waits for its leave. A
// guardian that is gone is none to wait for. With one that is there and does not answer
// this image must not go on: it may be about to take over.
func confirm(t *takeover) error {
	f, err := t.inherited.File(t.Talk)
	if err != nil {
		return err
	}
	talk := upgrade.TalkBy(f)
	defer talk.Close()
	if err := talk.Say(upgrade.Confirm); err != nil {
		return err
	}
	err = talk.Hear(upgrade.Granted, 2*takeoverTimeout)
	if err == nil {
		// Its copies of the streams' ends are closed when it has gone.
		err = talk.Hear(upgrade.Granted, takeoverTimeout)
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("the guardian does not give way: %w", err)
	}
	return nil
}

// goOn lets everything run, and answers who asked for the upgrade. There is no way
// back from here.
func (s *server) goOn(t *takeover) {
	s.meter.Upgraded(t.cause)
	s.reaper.Unpark()
	s.set.Go()
	s.publisher.Unpark()
	if t.cause == nil {
		log.L.Infof("the shim goes on as %s; it was %s", config.VersionText(), t.Build.Version)
		if err := s.set.WriteShimBinary(s.executable); err != nil {
			log.L.WithError(err).Warn("another binary will clean up after the shim")
		}
	} else {
		log.L.WithError(t.cause).Error("the new image of the shim failed; the old one goes on, in another process")
		if err := s.set.Inherit(); err != nil {
			log.L.WithError(err).Error("if this shim is killed, some exits stay unknown")
		}
	}
	response, err := t.response()
	if err == nil {
		err = s.clients.answer(response)
	}
	if err != nil {
		log.L.WithError(err).Warn("whoever asked for the upgrade does not learn what came of it")
	}
}

// response is the encoded answer to the request for the upgrade.
func (t *takeover) response() ([]byte, error) {
	if t.cause != nil {
		return proto.Marshal(&ttrpc.Response{Status: status.Convert(errgrpc.ToGRPC(t.cause)).Proto()})
	}
	payload, err := control.UpgradeResponse{
		PID: os.Getpid(), From: t.Build, To: control.Build{Version: config.Version, Revision: config.Revision},
	}.Encode()
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&ttrpc.Response{Payload: payload})
}
