// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * A datagram was queued to a socket: sk_data_ready (6.3), fired by the socket's wake-up.
 *
 * It is given the socket only. The packet is the one that left LOCAL_IN on this processor just
 * before, which netfilter.bpf.c remembers: delivery runs to its end on one processor. Own object,
 * because older kernels lack the tracepoint; without it the proof is the application reading the
 * packet, or that no drop followed.
 *
 * Not seen here: TCP, whose proof is the socket's state.
 */
#include "include/current.h"
#include "include/emit.h"
#include <bpf/bpf_tracing.h>

#define FRESH_NS 1000000

SEC("tp_btf/sk_data_ready")
int BPF_PROG(sk_data_ready, struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;
	struct current *now;
	struct event *e;

	if (sk->sk_protocol != IPPROTO_UDP || (family != 2 && family != 10))
		return 0;
	now = get_current();
	if (!now || !now->time || now->pkt.tuple.dport != sk->__sk_common.skc_num ||
	    now->netns != sock_netns(sk) || bpf_ktime_get_ns() - now->time > FRESH_NS)
		return 0;
	now->time = 0;
	e = event_new(HOOK_SOCKET_READY, EVENT_PLAIN);
	if (!e)
		return 0;
	e->skb = now->skb;
	e->head = now->head;
	e->sock = (__u64)sk;
	e->netns = now->netns;
	e->pkt = now->pkt;
	event_send(e);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
