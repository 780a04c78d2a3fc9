package flow

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// dropStages maps the beginning of the name of a dropping function to a stage; the first that fits
// counts. stageNone stands for a netfilter hook.
func dropStages() []struct {
	prefix string
	stage  stageID
} {
	return []struct {
		prefix string
		stage  stageID
	}{
		{"nf_ct_frag", stageFragment}, {"ip_fragment", stageFragment}, {"ip_do_fragment", stageFragment},
		{"ip6_fragment", stageFragment}, {"ip_frag", stageFragment}, {"ip6_frag", stageFragment},
		{"inet_frag", stageFragment}, {"ip_defrag", stageFragment}, {"ip_expire", stageFragment},
		{"nf_", stageNone}, {"nft_", stageNone}, {"__nf_", stageNone}, {"ipt_", stageNone}, {"ip6t_", stageNone},
		{"xt_", stageNone}, {"nfqnl_", stageNone}, {"ip_vs_", stageNone},
		{"tcp_", stageTCP}, {"__tcp_", stageTCP}, {"inet_csk_", stageTCP},
		{"udp", stageUDP}, {"__udp", stageUDP}, {"icmp", stageICMP}, {"__icmp", stageICMP}, {"ping_", stageICMP},
		{"br_", stageBridge}, {"__br_", stageBridge}, {"vxlan_", stageVXLAN},
		{"neigh_", stageNeighbour}, {"__neigh_", stageNeighbour}, {"arp_", stageNeighbour}, {"ndisc_", stageNeighbour},
		{"__dev_queue_xmit", stageQdisc}, {"__dev_xmit_skb", stageQdisc}, {"dev_qdisc", stageQdisc}, {"qdisc_", stageQdisc},
		{"__qdisc_", stageQdisc}, {"sch_", stageQdisc}, {"noop_", stageQdisc}, {"tbf_", stageQdisc}, {"pfifo_", stageQdisc},
		{"bfifo_", stageQdisc}, {"fq_", stageQdisc}, {"htb_", stageQdisc}, {"codel_", stageQdisc}, {"netem_", stageQdisc},
		{"sfq_", stageQdisc}, {"prio_", stageQdisc}, {"cake_", stageQdisc}, {"red_", stageQdisc}, {"hfsc_", stageQdisc},
		{"drr_", stageQdisc}, {"qfq_", stageQdisc}, {"hhf_", stageQdisc}, {"pie_", stageQdisc},
		{"ip_forward", stageRoute}, {"ip6_forward", stageRoute}, {"ip_error", stageRoute}, {"ip_rcv_finish", stageRoute},
		{"ip6_rcv_finish", stageRoute}, {"fib", stageRoute}, {"ip_route", stageRoute}, {"ip6_route", stageRoute},
		{"ip6_pkt_d", stageRoute}, {"ip6_pkt_p", stageRoute}, {"ip_mr_", stageRoute}, {"dst_discard", stageRoute},
		{"xfrm", stageXfrm}, {"__xfrm", stageXfrm}, {"esp", stageXfrm},
		{"sk_", stageSocket}, {"__sk_", stageSocket}, {"sock_", stageSocket}, {"__sock_", stageSocket}, {"raw_", stageSocket},
		{"packet_rcv", stageSocket}, {"tpacket_rcv", stageSocket}, {"inet_sock_", stageSocket},
	}
}

// dropStage returns the stage of a function that drops packets, stageDevice if nothing is known.
func dropStage(function string) stageID {
	for _, s := range dropStages() {
		if strings.HasPrefix(function, s.prefix) {
			return s.stage
		}
	}
	return stageDevice
}

// isNoiseReason reports whether drops with that reason are part of every healthy flow.
func isNoiseReason(reason string) bool {
	switch reason {
	case "QUEUE_PURGE", "TCP_OLD_DATA", "SKB_CONSUMED", "CONSUMED", "OTHERHOST", "TCP_RESET":
		return true
	}
	return false
}

// drop records that an sk_buff was freed.
func (r *recorder) drop() {
	symbol := r.t.names.location(r.e.Location)
	l := r.t.names.locations[symbol]
	reason := r.t.cfg.Namer.DropReason(r.e.Reason)
	s := r.dropStage(&l, reason)
	r.base.symbol = symbol
	switch {
	case r.b.open && s == r.b.openStage:
		r.inOpenHook()
	case r.inUnseenHook(s):
		r.base.in, r.base.out = r.e.InIfindex, r.e.OutIfindex
	}
	r.base.copied = r.isOtherHost(l.function, reason) || isTap(l.function) || r.isTakenEcho(l.function, reason)
	r.base.noise = r.base.copied || isNoiseReason(reason) || isPart(l.function, reason) || r.isTCPNoise(s, l.function, reason)
	r.b.freed = true
	r.t.forgetSkb(r.p, r.e.Skb)
	if !r.base.noise {
		r.noteDrop()
	}
	r.translate(s)
	r.add(s, actionDrop, &extra{reason: reason})
}

// isTap reports whether a function gives clones to sockets that only listen in, or discards what is
// left after raw sockets took their clones (ping_rcv, of an echo reply).
func isTap(function string) bool {
	return function == "packet_rcv" || function == "tpacket_rcv" || function == "ping_rcv"
}

// isOtherHost reports whether a frame that was for another host was discarded. Kernels without drop
// reasons say so by the packet's type.
func (r *recorder) isOtherHost(function, reason string) bool {
	const otherHost = 3 // PACKET_OTHERHOST, include/uapi/linux/if_packet.h
	ip := function == "ip_rcv_core" || function == "ip6_rcv_core" || function == "ipv6_rcv"
	return reason == "OTHERHOST" || reason == "" && ip && r.e.PktType == otherHost
}

// isPart reports whether a part of a reassembled packet was freed with the whole, which older
// kernels (6.1) report like a drop.
func isPart(function, reason string) bool {
	return function == "skb_release_data" && (reason == "" || reason == "NOT_SPECIFIED")
}

// isTakenEcho reports whether the function discards an echo reply after raw sockets took their clones of
// it, where the compiler put ping_rcv into its caller.
func (r *recorder) isTakenEcho(function, reason string) bool {
	return (function == "icmp_rcv" || function == "icmpv6_rcv") && (reason == "" || reason == "NO_SOCKET") &&
		r.p.dir == reply && !r.p.fp.icmpError
}

// inOpenHook gives the hop the place of the open hook: skb->dev may be in another namespace.
func (r *recorder) inOpenHook() {
	b := r.b
	r.base.in, r.base.out = b.openIn, b.openOut
	if r.base.netns != b.openNS {
		r.base.netns, r.base.ifindex, r.base.dev = b.openNS, 0, 0
	}
}

// noteDrop notes a drop that matters in the packet and its flow.
func (r *recorder) noteDrop() {
	f := r.p.flow
	if r.t.promote(r.p); !r.p.kept {
		r.t.stats.HopsOmitted++
	}
	r.p.dropped, f.dropped = true, true
	if f.settleID == r.p.id {
		f.settleID = 0
	}
	r.t.place(f)
}

// dropStage returns where the packet was dropped: the open hook unless the function is of another
// part of the stack.
func (r *recorder) dropStage(l *location, reason string) stageID {
	netfilter := l.stage == stageNone || strings.HasPrefix(reason, "NETFILTER")
	switch {
	case r.b.open && (netfilter || l.stage == stageDevice):
		return r.b.openStage
	case netfilter && r.e.Flags&wire.FlagInHook != 0:
		return stageHook + stageID(r.e.NFHook)
	case netfilter:
		return r.guessHook(l.function)
	}
	return l.stage
}

// inUnseenHook reports whether the drop tells its hook, which reported nothing of the packet before:
// segments in mid-connection are not reported on their way.
func (r *recorder) inUnseenHook(s stageID) bool {
	return r.e.Flags&wire.FlagInHook != 0 && s == stageHook+stageID(r.e.NFHook)
}

// guessHook returns the stage of a drop by netfilter outside the hooks that were seen: of the
// bridge family where those of the IP families report, else the hook that comes next.
//
// Connection tracking enters a flow into its table at the last priority of POSTROUTING and INPUT, after
// our hook there, and discards a packet whose entry it cannot enter (__nf_conntrack_confirm); rules of
// the bridge family, which come next, are walked by a function of their own.
func (r *recorder) guessHook(function string) stageID {
	_, hooked := r.t.hooked[r.e.NetNS]
	last := stageHook + wire.NFPostrouting
	switch {
	case hooked && !r.b.bridged && function == "nf_hook_slow" && (r.b.stage == last || r.b.stage == stageHook+wire.NFInput):
		return r.b.stage
	case r.b.bridged || hooked:
		return stageBridge
	case r.b.stage == stageHook+wire.NFOutput:
		return stageHook + wire.NFPostrouting
	case r.b.stage == stageHook+wire.NFPrerouting:
		return stageHook + wire.NFForward
	case r.b.hook == wire.HookUnknown && r.e.Ifindex == 0:
		return stageHook + wire.NFOutput
	}
	return stageHook + wire.NFPrerouting
}

// isTCPNoise reports whether TCP discards a packet that had nothing to say any more.
func (r *recorder) isTCPNoise(s stageID, function, reason string) bool {
	f, flags := r.p.flow, r.p.fp.tcpFlags
	if f.proto != wire.ProtoTCP || r.p.fp.icmpError || s != stageTCP {
		return false
	}
	switch {
	case flags&wire.RST != 0, f.fin[0] && f.fin[1]:
		return true
	case f.reset && f.established() && flags&wire.SYN == 0:
		return true
	case reason != "NOT_SPECIFIED" || !strings.HasSuffix(function, "_rcv") && function != "tcp_rcv_state_process":
		return false
	case flags&wire.FIN != 0:
		return f.established() || f.path.Midstream
	}
	pureACK := flags&(wire.SYN|wire.ACK) == wire.ACK && r.p.fp.payload == 0
	return pureACK && (f.fin[0] || f.fin[1])
}
