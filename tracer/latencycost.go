package tracer

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// costMethod says how the cost of an observation is measured.
const costMethod = "a datagram over a loopback of its own, 2000 times with and without the hooks, lower quartiles"

// costBatches of costRounds datagrams are sent each time. The events of a batch fill a small part of the
// kernel's buffer.
const (
	costBatches = 10
	costRounds  = 200
)

// yardstick measures the cost of an observation: datagrams over the loopback of a namespace of its own,
// before the hooks are attached and after. Nothing of it can be seen outside.
type yardstick struct {
	ns       *os.File
	inode    uint32
	in, out  int // sockets
	tuple    wire.Tuple
	baseline time.Duration
}

// newYardstick makes the namespace and measures without hooks.
func newYardstick() (_ *yardstick, err error) {
	y := &yardstick{in: -1, out: -1}
	defer func() {
		if err != nil {
			y.close()
			err = fmt.Errorf("measure the cost of an observation: %w", err)
		}
	}()
	if y.ns, err = netns.New(); err != nil {
		return nil, err
	}
	id, err := netns.Identify(y.ns)
	if err != nil {
		return nil, err
	}
	y.inode = id.Inode
	if err = netns.Do(y.ns, y.open); err != nil {
		return nil, err
	}
	y.baseline, err = y.typical(func() error { return nil })
	return y, err
}

// open runs inside the namespace.
func (y *yardstick) open() (err error) {
	if y.in, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	if err = setLoopbackUp(y.in); err != nil {
		return err
	}
	if y.out, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	here := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	var ends [2]netip.AddrPort
	for i, fd := range []int{y.in, y.out} {
		if err = unix.Bind(fd, here); err != nil {
			return err
		}
		bound, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		ends[i] = netip.AddrPortFrom(netip.AddrFrom4(here.Addr), uint16(bound.(*unix.SockaddrInet4).Port))
	}
	y.tuple = wire.Tuple{Src: ends[1], Dst: ends[0], Proto: wire.ProtoUDP}
	return unix.Connect(y.out, &unix.SockaddrInet4{Addr: here.Addr, Port: int(ends[0].Port())})
}

// setLoopbackUp sets lo of the namespace of a socket up.
func setLoopbackUp(fd int) error {
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// run sends a batch and returns what sending and reading each datagram took. The receiving side of the
// stack runs within the send.
func (y *yardstick) run() ([]time.Duration, error) {
	took := make([]time.Duration, 0, costRounds)
	buf := []byte("pathtrace measures itself")
	for range costRounds {
		start := time.Now()
		if _, err := unix.Write(y.out, buf); err != nil {
			return nil, err
		}
		for {
			_, err := unix.Read(y.in, buf)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) || time.Since(start) > time.Second {
				return nil, err
			}
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

// typical sends all batches and returns the lower quartile: what a busy machine adds is above it. after is
// called after each batch.
func (y *yardstick) typical(after func() error) (time.Duration, error) {
	var all []time.Duration
	for range costBatches {
		took, err := y.run()
		if err == nil {
			err = after()
		}
		if err != nil {
			return 0, err
		}
		all = append(all, took...)
	}
	slices.Sort(all)
	return all[len(all)/4], nil
}

// cost measures again, with the hooks of set, and returns the mean cost of an observation, ns; 0 if it
// is less than can be measured. Nobody may read the events of set meanwhile.
func (y *yardstick) cost(set *probe.Set) (each int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("measure the cost of an observation: %w", err)
		}
	}()
	if err := y.attach(set); err != nil {
		return 0, err
	}
	events := 0
	took, err := y.typical(func() error {
		n, err := y.drain(set)
		events += n
		return err
	})
	err = errors.Join(err, set.Unfollow(y.tuple), set.DetachNetNS(y.inode))
	if err != nil || events == 0 {
		return 0, err
	}
	return max(int64(took-y.baseline)*costBatches*costRounds/int64(events), 0), nil
}

func (y *yardstick) attach(set *probe.Set) error {
	if set.NeedsNetNS() {
		if err := netns.Do(y.ns, func() error { return set.AttachNetNS(y.inode) }); err != nil {
			return err
		}
	}
	return set.Follow(y.tuple)
}

// drain takes the events out of the buffer and counts its own.
func (y *yardstick) drain(set *probe.Set) (n int, err error) {
	r, err := set.Reader()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var e wire.Event
	r.SetDeadline(time.Now())
	for r.Available() > 0 {
		if r.Read(&e) == nil && e.NetNS == y.inode {
			n++
		}
	}
	return n, nil
}

func (y *yardstick) close() {
	for _, fd := range []int{y.in, y.out} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	if y.ns != nil {
		y.ns.Close()
	}
}
