package xt

import (
	"fmt"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// endingTarget returns the decoders of targets that take the packet out of the chain.
func endingTarget(name string) targetFunc {
	switch name {
	case "REJECT":
		return rejectTarget
	case "NFQUEUE":
		return nfqueueTarget
	case "TPROXY":
		return tproxyTarget
	case "SYNPROXY":
		return synproxyTarget
	}
	return nil
}

// Standard returns the verdict of a standard target with a negative number (-NF_x-1, RETURN is -5):
// the built-in ones. The text is "-j ACCEPT" and so on. It returns false for all others.
func Standard(number int32) (Target, bool) {
	switch number {
	case -1:
		return Target{"-j DROP", firewall.Verdict{Kind: firewall.Drop}}, true
	case -2:
		return Target{"-j ACCEPT", firewall.Verdict{Kind: firewall.Accept}}, true
	case -4:
		return Target{"-j QUEUE", firewall.Verdict{Kind: firewall.Queue}}, true
	case -5:
		return Target{"-j RETURN", firewall.Verdict{Kind: firewall.Return}}, true
	}
	return Target{}, false
}

// rejectTarget decodes struct ipt_reject_info and struct ip6t_reject_info.
func rejectTarget(d *decoding) (firewall.Verdict, bool) {
	names := []string{
		"icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable",
		"icmp-port-unreachable", "echo-reply", "icmp-net-prohibited", "icmp-host-prohibited", "tcp-reset",
		"icmp-admin-prohibited",
	}
	if d.v6 {
		names = []string{
			"icmp6-no-route", "icmp6-adm-prohibited", "icmp6-not-neighbour", "icmp6-addr-unreachable",
			"icmp6-port-unreachable", "echo-reply", "tcp-reset", "icmp6-policy-fail", "icmp6-reject-route",
		}
	}
	with := d.u32(0)
	if d.rev != 0 || int64(with) >= int64(len(names)) {
		return firewall.Verdict{}, false
	}
	d.arg("--reject-with", names[with])
	return firewall.Verdict{Kind: firewall.Reject, Detail: names[with]}, true
}

// nfqueueTarget decodes struct xt_NFQ_info and its revisions 1 to 3.
func nfqueueTarget(d *decoding) (firewall.Verdict, bool) {
	if d.rev > 3 {
		return firewall.Verdict{}, false
	}
	num, total, flags := d.u16(0), uint16(1), uint16(0)
	if d.rev >= 1 {
		total = d.u16(2)
	}
	if d.rev >= 2 {
		flags = d.u16(4)
	}
	if total > 1 {
		d.argf("--queue-balance %d:%d", num, num+total-1)
	} else {
		d.arg("--queue-num", decimal(num))
	}
	d.flag(flags&1 != 0, "--queue-bypass")
	d.flag(d.rev == 3 && flags&2 != 0, "--queue-cpu-fanout")
	return firewall.Verdict{Kind: firewall.Queue}, true
}

// tproxyTarget decodes struct xt_tproxy_target_info and xt_tproxy_target_info_v1.
func tproxyTarget(d *decoding) (firewall.Verdict, bool) {
	addr, port := d.addr4(8), d.be16(12)
	if d.rev == 1 {
		addr, port = d.addr(8), d.be16(24)
	} else if d.rev != 0 {
		return firewall.Verdict{}, false
	}
	d.argf("--on-port %d --on-ip %s --tproxy-mark 0x%x/0x%x", port, addr, d.u32(4), d.u32(0))
	return firewall.Verdict{Kind: firewall.Stolen, Detail: d.name}, true
}

// synproxyTarget decodes struct xt_synproxy_info.
func synproxyTarget(d *decoding) (firewall.Verdict, bool) {
	if d.rev != 0 {
		return firewall.Verdict{}, false
	}
	options := d.u8(0)
	d.flag(options&0x04 != 0, "--sack-perm")
	d.flag(options&0x08 != 0, "--timestamp")
	d.flag(options&0x02 != 0, fmt.Sprintf("--wscale %d", d.u8(1)))
	d.flag(options&0x01 != 0, fmt.Sprintf("--mss %d", d.u16(2)))
	d.flag(options&0x10 != 0, "--ecn")
	return firewall.Verdict{Kind: firewall.Stolen, Detail: d.name}, true
}
