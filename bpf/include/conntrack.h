/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Connection tracking: both tuples of a packet's entry tell what it was and what it will be called.
 * struct nf_conn is part of the core kernel's BTF also where nf_conntrack is a module.
 */
#ifndef PATHTRACE_CONNTRACK_H
#define PATHTRACE_CONNTRACK_H

#include "emit.h"

/* enum ip_conntrack_status, include/uapi/linux/netfilter/nf_conntrack_common.h */
#define IPS_CONFIRMED 0x08
#define IPS_NAT_MASK 0x30 /* IPS_SRC_NAT | IPS_DST_NAT */

static __always_inline void fill_ct_tuple(struct tuple *to, const struct nf_conntrack_tuple *from)
{
	__u16 l3 = from->src.l3num;

	to->proto = from->dst.protonum;
	to->sport = bpf_ntohs(from->src.u.all);
	to->dport = bpf_ntohs(from->dst.u.all);
	__builtin_memcpy(to->saddr, from->src.u3.all, 16);
	__builtin_memcpy(to->daddr, from->dst.u3.all, 16);
	if (l3 == 2) { /* AF_INET: the address is in the first word */
		to->saddr[3] = to->saddr[0];
		to->daddr[3] = to->daddr[0];
		to->saddr[0] = to->daddr[0] = 0;
		to->saddr[1] = to->daddr[1] = 0;
		to->saddr[2] = to->daddr[2] = MAPPED_PREFIX;
	}
	if (to->proto == IPPROTO_ICMP || to->proto == IPPROTO_ICMPV6) {
		/* dst holds type and code; the identifier belongs to the asker's side */
		bool reply = false;

		if (is_echo(to->proto, from->dst.u.icmp.type, &reply) && reply) {
			to->dport = to->sport;
			to->sport = 0;
		} else {
			to->dport = 0;
		}
	}
}

/* The entry behind skb->_nfct; its low three bits are enum ip_conntrack_info. */
static __always_inline struct nf_conn *skb_ct(struct sk_buff *skb)
{
	return (struct nf_conn *)(skb->_nfct & ~7UL);
}

static __always_inline void read_ct_tuple(struct tuple *to, struct nf_conn *ct, int dir)
{
	struct nf_conntrack_tuple t = {};

	if (dir)
		read_words((__u64 *)&t, &ct->tuplehash[1].tuple, sizeof(t) / 8);
	else
		read_words((__u64 *)&t, &ct->tuplehash[0].tuple, sizeof(t) / 8);
	fill_ct_tuple(to, &t);
}

/* Fills in what an entry says and returns its address; the record has to be EVENT_TRACKED. */
OUT_OF_LINE __u64 fill_ct(struct event *e, struct nf_conn *ct, __u64 info)
{
	e->ct_info = info & 7;
	e->ct_status = PEEK(ct, status);
	read_ct_tuple(&e->ct_orig, ct, 0);
	read_ct_tuple(&e->ct_reply, ct, 1);
	return (__u64)ct;
}

/* A record with what connection tracking knows of the packet, and without room for it if nothing. */
static __always_inline struct event *event_new_ct(__u8 hook, struct sk_buff *skb)
{
	struct nf_conn *ct = skb_ct(skb);
	struct event *e;

	if (!ct)
		return event_new_packet(hook, EVENT_PLAIN);
	e = event_new_packet(hook, EVENT_TRACKED);
	if (e)
		e->ct = fill_ct(e, ct, skb->_nfct);
	return e;
}

/* The entry's IPS_* bits. No entry (untracked) has none. */
static __always_inline unsigned long ct_status(struct nf_conn *ct)
{
	return ct ? PEEK(ct, status) : 0;
}

OUT_OF_LINE int ct_ours(struct nf_conn *ct)
{
	struct tuple t = {};

	read_ct_tuple(&t, ct, 0);
	if (ours(&t))
		return 1;
	read_ct_tuple(&t, ct, 1);
	return ours(&t);
}

#endif
