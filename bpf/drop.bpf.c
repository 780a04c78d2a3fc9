// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Drops: kfree_skb, the tracepoint of every packet that is freed because something went wrong.
 *
 * Since 5.17 it carries the reason, since 6.11 the receiving socket; user space looks at the
 * running kernel's BTF and loads the program with the right number of arguments. The location is
 * the return address in the function that gave up.
 *
 * Not seen here: packets that are consumed without being wanted (a full accept queue ends in
 * consume_skb), packets that wait (unresolved neighbours, for seconds), and drops in hardware.
 */
#include "include/conntrack.h"
#include "include/segment.h"
#include <bpf/bpf_tracing.h>

/*
 * Dropped inside a hook after it was translated there: the tuple is not known yet, the packet is.
 */
static __always_inline bool inside_hook(const struct current *now, struct sk_buff *skb,
					const struct packet *p)
{
	return now && is_current(now, skb) && now->head == (__u64)skb->head && now->seq == p->seq &&
	       now->ip_id == p->ip_id;
}

/* A packet in mid-connection is not reported on its way: where it was dropped is said with the drop. */
static __always_inline void fill_hook(struct event *e, const struct current *now)
{
	e->pkt.flags |= EV_IN_HOOK;
	e->nf_hook = now->nf_hook;
	if (e->netns != now->netns) { /* skb->dev is not of here */
		e->netns = now->netns;
		e->ifindex = 0;
		__builtin_memset(e->dev, 0, sizeof(e->dev));
	}
	e->in_ifindex = now->in_ifindex;
	e->out_ifindex = now->out_ifindex;
}

/* Where endpoints are watched, the translated end is one of them: only a probe needs the second look. */
static __always_inline bool wanted(struct sk_buff *skb)
{
	const struct current *now;

	if (candidate(skb, skb->network_header))
		return true;
	if (!config.exact)
		return false;
	now = get_current();
	return now && is_current(now, skb);
}

OUT_OF_LINE int report(struct sk_buff *skb, void *location, __u32 reason, struct sock *rx_sk)
{
	struct current *now = get_current();
	PACKET(p, HOOK_DROP);
	struct event *e;

	if (!p || (!confirm(skb, skb->network_header, p) &&
		   !(inside_hook(now, skb, p) && current_ours(now))))
		return 0;
	e = event_new_ct(HOOK_DROP, skb);
	if (!e)
		return 0;
	fill_skb(e, skb, p);
	if (inside_hook(now, skb, p) && !now->time) {
		fill_hook(e, now);
		now->skb = 0; /* another packet gets its memory */
	}
	e->location = (__u64)location;
	e->reason = reason;
	if (rx_sk)
		e->sock = (__u64)rx_sk;
	if (!e->netns)
		e->netns = sock_netns(rx_sk ? rx_sk : BPF_CORE_READ(skb, sk));
	event_send(e);
	return 0;
}

#ifndef INLINE_PARSER /* kernels that need that form pass no reason */
SEC("tp_btf/kfree_skb")
int BPF_PROG(kfree_skb_socket, struct sk_buff *skb, void *location, __u32 reason,
	     struct sock *rx_sk)
{
	return wanted(skb) ? report(skb, location, reason, rx_sk) : 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(kfree_skb_reason, struct sk_buff *skb, void *location, __u32 reason)
{
	return wanted(skb) ? report(skb, location, reason, NULL) : 0;
}
#endif

SEC("tp_btf/kfree_skb")
int BPF_PROG(kfree_skb_plain, struct sk_buff *skb, void *location)
{
	return wanted(skb) ? report(skb, location, 0, NULL) : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
