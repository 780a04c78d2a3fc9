package prober

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// waiter waits for a descriptor until a deadline; the end of a context wakes it at once.
type waiter struct {
	ctx      context.Context
	deadline time.Time
	wake     int // eventfd
	stop     func() bool
	woken    chan struct{} // closed when the context's function has run
}

func newWaiter(ctx context.Context, timeout time.Duration) (*waiter, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	w := &waiter{ctx: ctx, deadline: time.Now().Add(timeout), wake: fd, woken: make(chan struct{})}
	w.stop = context.AfterFunc(ctx, func() {
		defer close(w.woken)
		// Eight bytes are what an eventfd takes; it cannot be full.
		_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 1})
	})
	return w, nil
}

// close releases the eventfd, after the function that writes to it.
func (w *waiter) close() {
	if !w.stop() {
		<-w.woken
	}
	unix.Close(w.wake)
}

// wait returns nil when fd is ready, os.ErrDeadlineExceeded at the deadline, or the context's error.
func (w *waiter) wait(fd int, events int16) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(w.wake), Events: unix.POLLIN}}
	for {
		left := time.Until(w.deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		// Rounded up, else the last millisecond would be spent in a busy loop.
		_, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case w.ctx.Err() != nil:
			return w.ctx.Err()
		case fds[0].Revents != 0:
			return nil
		}
	}
}

// within returns a waiter for the same context that ends earlier, if d is shorter than what is left.
func (w *waiter) within(d time.Duration) *waiter {
	short := *w
	if deadline := time.Now().Add(d); deadline.Before(w.deadline) {
		short.deadline = deadline
	}
	return &short
}
