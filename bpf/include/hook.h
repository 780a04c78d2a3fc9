/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Entering and leaving a netfilter hook, shared by the netfilter links and the function probes.
 *
 * Entering without leaving: the hook kept the packet (dropped, rejected, stolen). Another address
 * on leaving: it was translated here. Translation is recognised by the packet's identity (the same
 * skb entered this hook on this processor) or by its conntrack entry; the new tuple is followed
 * from then on.
 */
#ifndef PATHTRACE_HOOK_H
#define PATHTRACE_HOOK_H

#include "conntrack.h"
#include "follow.h"

#define NF_LOCAL_IN 1
#define NF_ACCEPT 1

static __always_inline struct current *get_current(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&current_packet, &zero);
}

static __always_inline void emit_hook(struct sk_buff *skb, const struct nf_hook_state *state,
				      const struct packet *p, __u8 hook)
{
	struct net_device *in = KREAD(state, in), *out = KREAD(state, out);
	struct event *e = event_new(hook);

	if (!e)
		return;
	fill_skb(e, skb, p);
	fill_ct(e, skb_ct(skb), KREAD(skb, _nfct));
	e->nf_hook = KREAD(state, hook);
	e->netns = net_inum(KREAD(state, net));
	e->location = (__u64)KREAD(state, okfn);
	e->in_ifindex = in ? KREAD(in, ifindex) : 0;
	e->out_ifindex = out ? KREAD(out, ifindex) : 0;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void remember(struct sk_buff *skb, const struct nf_hook_state *state,
				     const struct packet *p)
{
	struct current *now = get_current();

	if (!now)
		return;
	now->skb = (__u64)skb;
	now->head = (__u64)KREAD(skb, head);
	now->seq = p->seq;
	now->ip_id = p->ip_id;
	now->netns = net_inum(KREAD(state, net));
	now->nf_hook = KREAD(state, hook);
	now->time = 0;
}

/* Delivery continues on this processor: ready.bpf.c takes the packet from here. */
static __always_inline void remember_delivery(struct sk_buff *skb, struct current *now,
					      const struct nf_hook_state *state,
					      const struct packet *p)
{
	now->skb = (__u64)skb;
	now->head = (__u64)KREAD(skb, head);
	now->netns = net_inum(KREAD(state, net));
	now->pkt = *p;
	now->time = bpf_ktime_get_ns();
}

static __noinline int enter_hook(struct sk_buff *skb, const struct nf_hook_state *state)
{
	struct packet p;

	if (!match(skb, KREAD(skb, network_header), &p))
		return 0;
	remember(skb, state, &p);
	if (in_detail(&p))
		emit_hook(skb, state, &p, HOOK_NF_ENTER);
	return 0;
}

/* The same packet that entered: the address alone is not enough, it may have been freed inside. */
static __always_inline bool entered(const struct current *now, struct sk_buff *skb,
				    const struct nf_hook_state *state)
{
	return now->skb == (__u64)skb && now->head == (__u64)KREAD(skb, head) &&
	       now->nf_hook == KREAD(state, hook) && now->netns == net_inum(KREAD(state, net));
}

/* A conntrack entry of ours, judged by its ends without parsing. */
static __noinline int ct_ours(struct nf_conn *ct)
{
	const struct marks *m = get_marks();
	struct tuple t = {};

	if (!m)
		return 0;
	for (int dir = 0; dir < 2; dir++) {
		read_ct_tuple(&t, ct, dir);
		if ((marked(m, fold(t.daddr), t.dport, t.proto) ||
		     marked(m, fold(t.saddr), t.sport, t.proto)) &&
		    ours(&t))
			return 1;
	}
	return 0;
}

/* A packet whose tuple is not ours as it leaves: was it ours before translation? */
static __noinline int translated(struct sk_buff *skb, const struct nf_hook_state *state,
				 struct packet *p)
{
	struct current *now = get_current();
	struct nf_conn *ct = skb_ct(skb);
	bool same = now && entered(now, skb, state);

	if (!same && (!ct || !ct_ours(ct)))
		return 0;
	if (!parse_packet(skb, KREAD(skb, network_header), p))
		return 0;
	if (same && (now->seq != p->seq || now->ip_id != p->ip_id))
		return 0;
	follow(&p->tuple);
	p->flags |= EV_TRACKED;
	return 1;
}

static __noinline int leave_hook(struct sk_buff *skb, const struct nf_hook_state *state)
{
	struct current *now;
	struct packet p;

	if (!match(skb, KREAD(skb, network_header), &p) && !translated(skb, state, &p))
		return 0;
	if (in_detail(&p))
		emit_hook(skb, state, &p, HOOK_NF_LEAVE);
	now = get_current();
	if (!now)
		return 0;
	now->skb = 0;
	if (KREAD(state, hook) == NF_LOCAL_IN && p.tuple.proto == IPPROTO_UDP)
		remember_delivery(skb, now, state, &p);
	return 0;
}

#endif
