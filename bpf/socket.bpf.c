// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Sockets: what proves that the target took the request, and what a socket does by itself.
 *
 * inet_sock_set_state (4.16) reports the child socket that a completed handshake creates in the
 * target's namespace, and the asker's socket becoming established. tcp_send_reset and
 * tcp_retransmit_skb (4.16) tell resets and repeated segments from what merely looks like them.
 * skb_copy_datagram_iovec (2.6.32) is the application reading the very datagram.
 *
 * Not seen here: a SYN that a full accept queue swallows (no event exists; the listener's counters
 * tell), and a datagram that waits in a socket nobody reads (see ready.bpf.c).
 */
#include "include/sock.h"
#include <bpf/bpf_tracing.h>

#define TCP_ESTABLISHED 1
#define TCP_CLOSE 7

static __always_inline struct event *sock_event(const struct sock *sk, const struct tuple *t,
						__u8 hook)
{
	struct event *e = event_new(hook, EVENT_PLAIN);

	if (!e)
		return NULL;
	e->sock = (__u64)sk;
	e->netns = sock_netns(sk);
	e->pkt.tuple = *t;
	return e;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sk, int old_state, int new_state)
{
	struct tuple t = {};
	struct event *e;

	if (new_state != TCP_ESTABLISHED && new_state != TCP_CLOSE)
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	sock_tuple(&t, sk, IPPROTO_TCP);
	if (!sock_ours(&t))
		return 0;
	e = sock_event(sk, &t, HOOK_TCP_STATE);
	if (!e)
		return 0;
	e->old_state = old_state;
	e->new_state = new_state;
	event_send(e);
	return 0;
}

/* A segment that reached its socket has no device any more: the socket tells the namespace. */
OUT_OF_LINE int reset_of_packet(const struct sock *sk, struct sk_buff *skb, __u32 reason)
{
	PACKET(p, HOOK_TCP_RESET);
	struct event *e;

	if (!p || !candidate(skb, skb->network_header) || !confirm(skb, skb->network_header, p))
		return 0;
	e = event_new_packet(HOOK_TCP_RESET, EVENT_PLAIN);
	if (!e)
		return 0;
	fill_skb(e, skb, p);
	e->reason = reason;
	if (!e->netns)
		e->netns = sock_netns(sk);
	event_send(e);
	return 0;
}

static __always_inline int reset_of_sock(const struct sock *sk, __u32 reason)
{
	struct tuple t = {};
	struct event *e;

	if (!sk)
		return 0;
	sock_tuple(&t, sk, IPPROTO_TCP);
	if (!sock_ours(&t))
		return 0;
	e = sock_event(sk, &t, HOOK_TCP_RESET);
	if (!e)
		return 0;
	e->reason = reason;
	event_send(e);
	return 0;
}

/* skb is the packet that is answered, NULL when a socket resets by itself. Reason since 6.9. */
#ifndef INLINE_PARSER /* kernels that need that form pass no reason */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_send_reset_reason, struct sock *sk, struct sk_buff *skb, __u32 reason)
{
	return skb ? reset_of_packet(sk, skb, reason) : reset_of_sock(sk, reason);
}
#endif

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_send_reset_plain, struct sock *sk, struct sk_buff *skb)
{
	return skb ? reset_of_packet(sk, skb, 0) : reset_of_sock(sk, 0);
}

/* skb is the queued segment, of which a clone is sent: it has no headers yet. */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, struct sock *sk, struct sk_buff *skb)
{
	struct tcp_skb_cb *cb = (void *)skb->cb;
	struct tuple t = {};
	struct event *e;

	sock_tuple(&t, sk, IPPROTO_TCP);
	if (!sock_ours(&t))
		return 0;
	e = sock_event(sk, &t, HOOK_TCP_RETRANSMIT);
	if (!e)
		return 0;
	e->skb = (__u64)skb;
	e->head = (__u64)skb->head;
	bpf_probe_read_kernel(&e->pkt.seq, sizeof(e->pkt.seq), &cb->seq);
	event_send(e);
	return 0;
}

OUT_OF_LINE int report_read(struct sk_buff *skb)
{
	PACKET(p, HOOK_SOCKET_READ);
	struct event *e;

	if (!p || !confirm(skb, skb->network_header, p) || !in_detail(p))
		return 0;
	e = event_new_packet(HOOK_SOCKET_READ, EVENT_PLAIN);
	if (!e)
		return 0;
	fill_skb(e, skb, p);
	e->ifindex = 0; /* skb->dev is not a device any more once it was queued */
	e->dev[0] = 0;
	e->netns = task_netns();
	event_send(e);
	return 0;
}

/* The state of a TCP socket says more than what is read from it, and streams are read a lot. */
static __always_inline bool is_stream(const struct sk_buff *skb)
{
	const struct sock *sk = PEEK(skb, sk);

	return sk && PEEK(sk, sk_protocol) == IPPROTO_TCP;
}

SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(skb_copy_datagram_iovec, struct sk_buff *skb)
{
	if (is_stream(skb))
		return 0;
	return candidate(skb, skb->network_header) ? report_read(skb) : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
