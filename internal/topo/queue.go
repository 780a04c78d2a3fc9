package topo

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Qdisc is a queueing discipline of a device, with its counters since it was created.
type Qdisc struct {
	Ifindex uint32
	// Kind as tc(8) names it: noqueue, pfifo_fast, fq_codel, tbf, clsact, …
	Kind string
	// Handle and Parent as tc(8) writes them: "8001:", "root".
	Handle, Parent string
	// Drops counts packets that it discarded, Overlimits those that had to wait for the rate.
	Drops, Overlimits uint64
}

// Filter is a classifier attached to a device through the ingress or clsact qdisc.
type Filter struct {
	// Kind as tc(8) names it: bpf, u32, matchall, flower, …
	Kind string
	// Egress tells on which side it is.
	Egress bool
	// Priority is the number that `tc filter` shows as pref.
	Priority uint16
	// Program is the number of a BPF program and Name its name; 0 and empty for other kinds.
	Program uint32
	Name    string
}

// Qdiscs returns the queueing disciplines of all devices of a namespace.
func (t *Topology) Qdiscs(netns uint32) ([]Qdisc, error) {
	var list []netlink.Qdisc
	err := t.withHandle(netns, func(h *netlink.Handle) (err error) {
		list, err = h.QdiscList(nil)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list queueing disciplines: %w", err)
	}
	out := make([]Qdisc, 0, len(list))
	for _, q := range list {
		a := q.Attrs()
		item := Qdisc{Ifindex: uint32(a.LinkIndex), Kind: q.Type(), Handle: handle(a.Handle), Parent: handle(a.Parent)}
		if s := a.Statistics; s != nil && s.Queue != nil {
			item.Drops, item.Overlimits = uint64(s.Queue.Drops), uint64(s.Queue.Overlimits)
		}
		out = append(out, item)
	}
	return out, nil
}

// handle writes the number of a qdisc or class as tc(8) does.
func handle(n uint32) string {
	switch n {
	case netlink.HANDLE_ROOT:
		return "root"
	case netlink.HANDLE_INGRESS:
		return "ingress"
	case netlink.HANDLE_NONE:
		return "0:"
	}
	major, minor := netlink.MajorMinor(n)
	if minor != 0 {
		return fmt.Sprintf("%x:%x", major, minor)
	}
	return fmt.Sprintf("%x:", major)
}

// Filters returns the classifiers at the ingress and egress of a device. It has none without an
// ingress or clsact qdisc.
func (t *Topology) Filters(netns, ifindex uint32) ([]Filter, error) {
	out := []Filter{}
	err := t.withHandle(netns, func(h *netlink.Handle) error {
		dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			list, err := h.FilterList(dev, parent)
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
				continue // no such qdisc
			}
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				return err
			}
			for _, f := range list {
				item := Filter{Kind: f.Type(), Egress: parent == netlink.HANDLE_MIN_EGRESS, Priority: f.Attrs().Priority}
				if b, ok := f.(*netlink.BpfFilter); ok {
					item.Program, item.Name = uint32(b.Id), b.Name
				}
				out = append(out, item)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list filters: %w", err)
	}
	return out, nil
}
