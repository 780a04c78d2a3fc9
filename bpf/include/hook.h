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
#include "segment.h"

#define NF_LOCAL_IN 1
#define NF_LOCAL_OUT 3
#define NF_ACCEPT 1

static __always_inline __u32 state_netns(const struct nf_hook_state *state)
{
	const struct net *net = PEEK(state, net);

	return net_inum(net);
}

/* A packet that was decrypted may be encrypted anew: then the route tells. */
static __always_inline void fill_ipsec(struct event *e, struct sk_buff *skb)
{
	__u32 spi = encrypts(skb);

	if (spi) {
		e->pkt.flags |= EV_ENCRYPTS;
	} else {
		spi = decrypted(skb);
		if (spi)
			e->pkt.flags |= EV_DECRYPTED;
	}
	e->reason = spi;
}

static __always_inline void emit_hook(struct sk_buff *skb, const struct nf_hook_state *state,
				      const struct packet *p, __u8 hook)
{
	const struct net_device *in = PEEK(state, in), *out = PEEK(state, out);
	struct event *e = event_new_ct(hook, skb);

	if (!e)
		return;
	fill_skb(e, skb, p);
	if (skb_ipvs(skb))
		e->pkt.flags |= EV_IPVS;
	fill_ipsec(e, skb);
	e->nf_hook = state->hook;
	e->netns = state_netns(state);
	e->location = (__u64)PEEK(state, okfn);
	e->in_ifindex = PEEK(in, ifindex);
	e->out_ifindex = PEEK(out, ifindex);
	event_send(e);
}

static __always_inline void remember_place(struct current *now, struct sk_buff *skb,
					   const struct nf_hook_state *state)
{
	const struct net_device *in = PEEK(state, in), *out = PEEK(state, out);

	now->in_ifindex = PEEK(in, ifindex);
	now->out_ifindex = PEEK(out, ifindex);
	now->skb = (__u64)skb;
	now->head = (__u64)skb->head;
	now->netns = state_netns(state);
	now->nf_hook = state->hook;
	now->time = 0;
}

static __always_inline void remember(struct sk_buff *skb, const struct nf_hook_state *state,
				     const struct packet *p)
{
	struct current *now = get_current();

	if (!now)
		return;
	remember_place(now, skb, state);
	now->seq = p->seq;
	now->ip_id = p->ip_id;
	now->passing = 0;
}

OUT_OF_LINE int remember_segment(struct sk_buff *skb, const struct nf_hook_state *state)
{
	struct current *now = get_current();

	if (!now)
		return 0;
	remember_place(now, skb, state);
	read_segment(skb, &now->segment);
	identify(&now->segment, now);
	now->passing = 1;
	return 0;
}

/* Delivery continues on this processor: ready.bpf.c takes the packet from here. */
static __always_inline void remember_delivery(struct sk_buff *skb, struct current *now,
					      const struct nf_hook_state *state,
					      const struct packet *p)
{
	now->skb = (__u64)skb;
	now->head = (__u64)skb->head;
	now->netns = state_netns(state);
	now->passing = 0;
	now->pkt = *p;
	now->time = bpf_ktime_get_ns();
}

/*
 * IPVS takes a request out of the hook in which it translated it, INPUT or OUTPUT, and sends it on
 * through OUTPUT from there, so that the first hook is entered and never left.
 */
static __always_inline bool sent_on(struct sk_buff *skb, const struct nf_hook_state *state)
{
	const struct current *now;

	if (state->hook != NF_LOCAL_OUT || !skb_ipvs(skb))
		return false;
	now = get_current();
	return now && is_current(now, skb) && now->netns == state_netns(state);
}

/* The packet's data may have been copied to be changed. */
static __always_inline bool is_like_current(const struct packet *p)
{
	const struct current *now = get_current();

	return now && now->seq == p->seq && now->ip_id == p->ip_id && current_ours(now);
}

static __always_inline bool enters(struct sk_buff *skb, const struct nf_hook_state *state,
				   struct packet *p)
{
	if (!parse_packet(skb, skb->network_header, p))
		return false;
	if (ours(&p->tuple))
		return true;
	if (!sent_on(skb, state) || !is_like_current(p))
		return false;
	follow(&p->tuple);
	return true;
}

OUT_OF_LINE int report_enter(struct sk_buff *skb, const struct nf_hook_state *state)
{
	PACKET(p, HOOK_NF_ENTER);

	if (!p || !enters(skb, state, p))
		return 0;
	remember(skb, state, p);
	if (in_detail(p))
		emit_hook(skb, state, p, HOOK_NF_ENTER);
	return 0;
}

static __always_inline int enter_hook(struct sk_buff *skb, const struct nf_hook_state *state)
{
	enum sight sight = look(skb, skb->network_header);

	if (sight == PASSING)
		return remember_segment(skb, state);
	if (sight == CANDIDATE || sent_on(skb, state))
		return report_enter(skb, state);
	return 0;
}

/* The same packet that entered: the address alone is not enough, it may have been freed inside. */
static __always_inline bool entered(const struct current *now, struct sk_buff *skb,
				    const struct nf_hook_state *state)
{
	return now->head == (__u64)skb->head && now->nf_hook == state->hook &&
	       now->netns == state_netns(state) && !now->time;
}

/*
 * Follows the tuple that a packet of ours got by translation. The one that entered, if it is known, has
 * kept its number: another packet may have got its memory meanwhile.
 */
static __always_inline bool take(struct sk_buff *skb, const struct current *now, struct packet *p)
{
	if (!parse_packet(skb, skb->network_header, p))
		return false;
	if (now && (now->seq != p->seq || now->ip_id != p->ip_id))
		return false;
	if (ours(&p->tuple))
		return true;
	follow(&p->tuple);
	p->flags |= EV_TRACKED;
	return true;
}

/*
 * Is a packet that leaves a hook ours? It is the one of ours that entered, or it became ours by
 * translation: then its entry says so, and either the new tuple is known, or, for the first packet
 * of a connection, one of the entry's tuples is.
 */
static __always_inline bool leaves(struct sk_buff *skb, const struct nf_hook_state *state,
				   const struct current *now, struct packet *p)
{
	__u32 l3 = skb->network_header;
	struct nf_conn *ct = skb_ct(skb);

	if (is_current(now, skb) && entered(now, skb, state) && current_ours(now))
		return take(skb, now, p);
	if (candidate(skb, l3) && confirm(skb, l3, p))
		return true;
	return !(ct_status(ct) & IPS_CONFIRMED) && ct_ours(ct) && take(skb, NULL, p);
}

OUT_OF_LINE int report_leave(struct sk_buff *skb, const struct nf_hook_state *state)
{
	struct current *now = get_current();
	PACKET(p, HOOK_NF_LEAVE);

	if (!now || !p || !leaves(skb, state, now, p))
		return 0;
	now->skb = 0;
	if (in_detail(p))
		emit_hook(skb, state, p, HOOK_NF_LEAVE);
	if (state->hook == NF_LOCAL_IN && p->tuple.proto == IPPROTO_UDP)
		remember_delivery(skb, now, state, p);
	return 0;
}

/* The segment that entered, as it was. */
static __always_inline bool passed(struct sk_buff *skb, const struct nf_hook_state *state,
				   struct current *now)
{
	struct segment s;

	if (!now->passing || !entered(now, skb, state))
		return false;
	read_segment(skb, &s);
	if (!same_segment(&s, &now->segment))
		return false;
	now->skb = 0;
	return true;
}

/*
 * A packet without translation that was not ours as it entered is not ours now: it costs no look at
 * its headers. A translated one of an existing connection costs the same look as at a device: in
 * mid-connection it is let go, whoever's it is.
 */
static __always_inline int leave_hook(struct sk_buff *skb, const struct nf_hook_state *state)
{
	struct current *now = get_current();
	unsigned long status;

	if (!now)
		return 0;
	if (is_current(now, skb))
		return passed(skb, state, now) ? 0 : report_leave(skb, state);
	status = ct_status(skb_ct(skb));
	if (!(status & IPS_NAT_MASK))
		return 0;
	if (status & IPS_CONFIRMED && look_at_device(skb, skb->network_header) != CANDIDATE)
		return 0;
	return report_leave(skb, state);
}

#endif
