// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

// parking is whether an IO is parked.
type parking int

const (
	notParked   parking = iota
	parkPending         // Park is under way
	parkDone            // by Park, until Unpark
	parkResumed         // by Resume, until Go
)

// Park brings the copying to rest at a point at which every byte is either in a
// descriptor or in the State, and returns that State. The streams, and a
// logger's end, then wait until Unpark, or until another image goes on with
// Resume. No descriptor is closed or changed, and a call of Drain or Finish that
// is under way goes on waiting. A second call returns the State again.
//
// It is errdefs.ErrUnavailable, and everything goes on as before, when Started is
// under way or when something does not come to rest before ctx ends (the error
// is ctx's too, and names it), which only a write to a file on a hanging file
// system should cause. After Close it is errdefs.ErrFailedPrecondition.
func (i *IO) Park(ctx context.Context) (State, error) {
	s, err := i.park(ctx)
	if err != nil {
		return State{}, fmt.Errorf("parking the standard streams of %q: %w", i.opts.ID, err)
	}
	return s, nil
}

func (i *IO) park(ctx context.Context) (State, error) {
	already, err := i.beginPark()
	if err != nil {
		return State{}, err
	}
	if already {
		return i.save()
	}
	if err := i.crew.rest(ctx); err != nil {
		i.endPark(notParked)
		return State{}, err
	}
	s, err := i.save()
	if err != nil {
		i.crew.resume()
		i.endPark(notParked)
		return State{}, err
	}
	if !i.endPark(parkDone) {
		return State{}, errClosed
	}
	return s, nil
}

var errClosed = fmt.Errorf("they are closed: %w", errdefs.ErrFailedPrecondition)

// beginPark claims the right to park, or reports that it has been done already.
func (i *IO) beginPark() (already bool, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.phase == phaseClosed:
		return false, errClosed
	case i.starting:
		return false, fmt.Errorf("they are being connected: %w", errdefs.ErrUnavailable)
	case i.parked == parkPending:
		return false, fmt.Errorf("they are being parked: %w", errdefs.ErrUnavailable)
	case i.parked != notParked:
		return true, nil
	}
	i.parked = parkPending
	return false, nil
}

// endPark notes how parking ended. It is false when Close came in between.
func (i *IO) endPark(as parking) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.parked != parkPending {
		return false
	}
	i.parked = as
	return true
}

// Unpark goes on after Park. Without Park it does nothing.
func (i *IO) Unpark() { i.unpark(parkDone) }

// unpark goes on with what is parked like that, and reports whether it was.
func (i *IO) unpark(from parking) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.parked != from {
		return false
	}
	i.parked = notParked
	i.crew.resume()
	return true
}

// Abandon releases this process's hold on a parked IO, for somebody else holds
// all its descriptors and goes on with it: nothing is ended or told to anybody.
// Of an IO that is not parked it is errdefs.ErrFailedPrecondition.
func (i *IO) Abandon() error {
	i.mu.Lock()
	if i.parked != parkDone && i.parked != parkResumed {
		i.mu.Unlock()
		return fmt.Errorf("standard streams of %q: only parked ones can be abandoned: %w", i.opts.ID, errdefs.ErrFailedPrecondition)
	}
	i.phase, i.parked = phaseClosed, notParked
	i.mu.Unlock()
	var errs []error
	i.closeOnce.Do(func() { // and never by Close
		i.cancel()
		i.fds.seal()
		for s := range numSlots {
			errs = append(errs, i.fds.close(s))
		}
		if i.socket != nil {
			errs = append(errs, i.socket.abandon())
		}
		if i.logger != nil && i.logger.leave != nil {
			errs = append(errs, i.logger.leave())
		}
		for _, o := range i.outputs {
			o.m.finish() // nobody here learns what becomes of it
		}
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("abandoning the standard streams of %q: %w", i.opts.ID, err)
	}
	return nil
}
