//go:build e2e

package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// mostEntries is up to which size of the table the test fills it: an entry takes about 320 bytes.
const mostEntries = 300_000

// inside runs fn in the host's namespace.
func (h *host) inside(t *testing.T, fn func() error) {
	t.Helper()
	ns, err := netns.Open(filepath.Join("/run/netns", h.NetNS))
	check(t, err)
	defer ns.Close()
	check(t, netns.Do(ns, fn))
}

// TestConntrackFull fills the host's table with entries that do not give way. The limit is the same for
// all namespaces of the machine and is not changed, but each has a table of its own.
func TestConntrackFull(t *testing.T) {
	h := spare(t, plain)
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	check(t, err)
	var limit int
	if _, err := fmt.Sscan(strings.TrimSpace(string(text)), &limit); err != nil || limit == 0 || limit > mostEntries {
		t.Skipf("nf_conntrack_max is %q: filling the table would take too much memory", text)
	}
	n := h.network(t)
	web := n.server(t, "-p", "80")
	at := web.published("80/tcp").String()
	t.Cleanup(func() { h.inside(t, func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }) })
	h.inside(t, func() error { return fillTable(limit + 1000) })
	h.probe(t, want{
		Outcome: path.Dropped, Cause: path.CauseConntrackFull, Namespace: "host", Direction: path.Request,
		Stage: path.StagePrerouting, Says: []string{"the connection tracking table is full", "nf_conntrack_max"},
	}, shared.Outside, at, brief...)
	h.inside(t, func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	h.probe(t, want{Outcome: path.Delivered}, shared.Outside, at)
}

// fillTable makes n entries of UDP flows, or fewer if there is no room, in the namespace of the calling
// thread.
func fillTable(n int) error {
	const batch = 500
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer s.Close()
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	var msgs []byte
	for i := range n {
		msgs = append(msgs, newEntry(uint32(i))...)
		if (i+1)%batch == 0 || i == n-1 {
			// Errors come back as messages, which nobody reads: a full table is what is wanted.
			if err := unix.Sendto(s.GetFd(), msgs, 0, to); err != nil {
				return err
			}
			msgs = msgs[:0]
		}
	}
	return nil
}

// newEntry asks for an entry that is kept under pressure.
func newEntry(i uint32) []byte {
	const (
		ctNew, ctStatus, ctTimeout = unix.NFNL_SUBSYS_CTNETLINK << 8, 3, 7
		repliedAndAssured          = 1<<1 | 1<<2 | 1<<3 // IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
	)
	client := []byte{10, 0, byte(i >> 8), byte(i)}
	port, server := 1024+uint16(i>>16), []byte{192, 0, 2, 1}
	req := nl.NewNetlinkRequest(ctNew, unix.NLM_F_CREATE)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	req.AddData(entryTuple(1, client, server, port, 9))
	req.AddData(entryTuple(2, server, client, 9, port))
	req.AddData(nl.NewRtAttr(ctStatus, binary.BigEndian.AppendUint32(nil, repliedAndAssured)))
	req.AddData(nl.NewRtAttr(ctTimeout, binary.BigEndian.AppendUint32(nil, 600)))
	return req.Serialize()
}

func entryTuple(direction int, src, dst []byte, sport, dport uint16) *nl.RtAttr {
	out := nl.NewRtAttr(unix.NLA_F_NESTED|direction, nil)
	ip := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	ip.AddRtAttr(nl.CTA_IP_V4_SRC, src)
	ip.AddRtAttr(nl.CTA_IP_V4_DST, dst)
	l4 := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	l4.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
	l4.AddRtAttr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, sport))
	l4.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, dport))
	out.AddChild(ip)
	out.AddChild(l4)
	return out
}
