package topo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoConntrackNetlink says that this kernel does not tell connection tracking entries: the module
// nf_conntrack_netlink is neither loaded nor built in, and nothing is loaded on behalf of a trace.
var ErrNoConntrackNetlink = errors.New("the kernel has no nf_conntrack_netlink")

// Of include/uapi/linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h.
const (
	ctMsgGet       = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	ctTupleOrig    = 1
	ctTupleReply   = 2
	ctStatus       = 3
	ctTimeout      = 7
	ctTimestamp    = 20
	ctTupleIP      = 1
	ctTupleProto   = 2
	ctProtoNum     = 1
	ctProtoSrcPort = 2
	ctProtoDstPort = 3

	ipsSeenReply = 1 << 1
	ipsAssured   = 1 << 2

	sizeofNfgenmsg = 4
)

// Tuple is one direction of a connection tracking entry.
type Tuple struct{ Src, Dst netip.AddrPort }

// Conntrack is an entry of the connection tracking table.
type Conntrack struct {
	// Orig is the flow as its first packet was, Reply the packets that come back as they arrive: a
	// destination that was translated is in Reply.Src, a source in Reply.Dst.
	Orig, Reply Tuple
	Proto       uint8 // IP protocol number
	// Replied is set once a packet of the reply came, Assured once the entry is kept under pressure.
	Replied, Assured bool
	// Timeout is how long the entry lives on without a packet.
	Timeout time.Duration
	// Started is zero unless the kernel keeps times (sysctl net.netfilter.nf_conntrack_timestamp).
	Started time.Time
}

// Conntrack returns the entry of a TCP or UDP flow by the tuple of either direction. It asks for
// exactly that entry, which costs the same however many there are. The error wraps unix.ENOENT if
// there is none, and ErrNoConntrackNetlink if the kernel does not tell.
func (t *Topology) Conntrack(netns uint32, proto uint8, tuple Tuple) (Conntrack, error) {
	if !t.features().conntrack {
		return Conntrack{}, fmt.Errorf("read connection tracking: %w", ErrNoConntrackNetlink)
	}
	var found Conntrack
	err := t.InNamespace(netns, func() error {
		// The kernel marks even a single entry as one of several; the acknowledgement ends the answer.
		req := conntrackRequest(unix.NLM_F_ACK, tuple.Dst.Addr()).with(ctTuple(proto, tuple))
		msgs, err := req.execute()
		if err != nil {
			return err
		}
		for _, msg := range msgs {
			if c, ok := parseConntrack(msg); ok {
				found = c
				return nil
			}
		}
		return unix.ENOENT
	})
	if err != nil {
		return Conntrack{}, fmt.Errorf("read connection tracking: %w", err)
	}
	return found, nil
}

// CountConntrack counts the entries of a namespace whose replies come from one end and go to any port
// of an address: the ports that a source translation has given away towards that end. It reads the
// whole table and is for rare questions only.
func (t *Topology) CountConntrack(netns uint32, proto uint8, replySrc netip.AddrPort, replyDst netip.Addr) (int, error) {
	if !t.features().conntrack {
		return 0, fmt.Errorf("count connection tracking entries: %w", ErrNoConntrackNetlink)
	}
	n := 0
	err := t.InNamespace(netns, func() error {
		msgs, err := conntrackRequest(unix.NLM_F_DUMP, replySrc.Addr()).execute()
		for _, msg := range msgs {
			c, ok := parseConntrack(msg)
			if ok && c.Proto == proto && c.Reply.Src == replySrc && c.Reply.Dst.Addr() == replyDst {
				n++
			}
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count connection tracking entries: %w", err)
	}
	return n, nil
}

// ctRequest is a request to ctnetlink.
type ctRequest struct{ req *nl.NetlinkRequest }

func conntrackRequest(flags int, addr netip.Addr) ctRequest {
	family := uint8(unix.AF_INET)
	if addr.Unmap().Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(ctMsgGet, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return ctRequest{req}
}

func (r ctRequest) with(attr *nl.RtAttr) ctRequest {
	r.req.AddData(attr)
	return r
}

func (r ctRequest) execute() ([][]byte, error) {
	msgs, err := r.req.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, nl.ErrDumpInterrupted) {
		err = nil // entries came and went meanwhile, as they do all the time
	}
	return msgs, err
}

// ctTuple encodes a tuple as the original one; the kernel looks it up in both directions
// (ctnetlink_get_conntrack).
func ctTuple(proto uint8, tuple Tuple) *nl.RtAttr {
	out := nl.NewRtAttr(unix.NLA_F_NESTED|ctTupleOrig, nil)
	src, dst := tuple.Src.Addr().Unmap(), tuple.Dst.Addr().Unmap()
	srcType, dstType := 1, 2 // CTA_IP_V4_SRC, CTA_IP_V4_DST
	if dst.Is6() {
		srcType, dstType = 3, 4 // CTA_IP_V6_SRC, CTA_IP_V6_DST
	}
	ip := nl.NewRtAttr(unix.NLA_F_NESTED|ctTupleIP, nil)
	ip.AddRtAttr(srcType, src.AsSlice())
	ip.AddRtAttr(dstType, dst.AsSlice())
	l4 := nl.NewRtAttr(unix.NLA_F_NESTED|ctTupleProto, nil)
	l4.AddRtAttr(ctProtoNum, []byte{proto})
	l4.AddRtAttr(ctProtoSrcPort, binary.BigEndian.AppendUint16(nil, tuple.Src.Port()))
	l4.AddRtAttr(ctProtoDstPort, binary.BigEndian.AppendUint16(nil, tuple.Dst.Port()))
	out.AddChild(ip)
	out.AddChild(l4)
	return out
}

// parseConntrack decodes a struct nfgenmsg and the attributes of an entry.
func parseConntrack(msg []byte) (Conntrack, bool) {
	if len(msg) < sizeofNfgenmsg {
		return Conntrack{}, false
	}
	attrs := msg[sizeofNfgenmsg:]
	var c Conntrack
	var ok1, ok2 bool
	c.Orig, c.Proto, ok1 = parseCtTuple(attr(attrs, ctTupleOrig))
	c.Reply, _, ok2 = parseCtTuple(attr(attrs, ctTupleReply))
	if b := attr(attrs, ctStatus); len(b) == 4 {
		status := binary.BigEndian.Uint32(b)
		c.Replied, c.Assured = status&ipsSeenReply != 0, status&ipsAssured != 0
	}
	if b := attr(attrs, ctTimeout); len(b) == 4 {
		c.Timeout = time.Duration(binary.BigEndian.Uint32(b)) * time.Second
	}
	if b := attr(attr(attrs, ctTimestamp), 1); len(b) == 8 { // CTA_TIMESTAMP_START, ns since 1970
		c.Started = time.Unix(0, int64(binary.BigEndian.Uint64(b)))
	}
	return c, ok1 && ok2
}

func parseCtTuple(b []byte) (t Tuple, proto uint8, ok bool) {
	ip, l4 := attr(b, ctTupleIP), attr(b, ctTupleProto)
	src, ok1 := netip.AddrFromSlice(either(attr(ip, 1), attr(ip, 3)))
	dst, ok2 := netip.AddrFromSlice(either(attr(ip, 2), attr(ip, 4)))
	num := attr(l4, ctProtoNum)
	if !ok1 || !ok2 || len(num) != 1 {
		return Tuple{}, 0, false
	}
	port := func(typ uint16) uint16 {
		if b := attr(l4, typ); len(b) == 2 {
			return binary.BigEndian.Uint16(b)
		}
		return 0 // a protocol without ports
	}
	return Tuple{
		Src: netip.AddrPortFrom(src.Unmap(), port(ctProtoSrcPort)),
		Dst: netip.AddrPortFrom(dst.Unmap(), port(ctProtoDstPort)),
	}, num[0], true
}

func either(a, b []byte) []byte {
	if a != nil {
		return a
	}
	return b
}
