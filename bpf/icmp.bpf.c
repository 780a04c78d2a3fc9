// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * ICMP errors at their origin: icmp_send (6.10) is given the packet that is answered, so the error
 * is known also where it is rate-limited or dropped before it leaves.
 *
 * Not seen here: ICMPv6 (no tracepoint), and older kernels; there the error packet itself, which
 * quotes the flow, is seen at the devices.
 */
#include "include/emit.h"
#include <bpf/bpf_tracing.h>

SEC("tp_btf/icmp_send")
int BPF_PROG(icmp_send, struct sk_buff *skb, int type, int code)
{
	PACKET(p, HOOK_ICMP_SEND);
	struct event *e;

	if (!p || !candidate(skb, skb->network_header) || !confirm(skb, skb->network_header, p))
		return 0;
	e = event_new_packet(HOOK_ICMP_SEND, EVENT_PLAIN);
	if (!e)
		return 0;
	fill_skb(e, skb, p);
	e->pkt.icmp_type = type;
	e->pkt.icmp_code = code;
	event_send(e);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
