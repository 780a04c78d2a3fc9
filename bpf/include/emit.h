/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Filling and sending a record. A record that does not fit is counted under its hook. */
#ifndef PATHTRACE_EMIT_H
#define PATHTRACE_EMIT_H

#include "filter.h"

static __always_inline struct event *event_new(__u8 hook)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count_lost(hook);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_ns();
	e->hook = hook;
	e->cpu = bpf_get_smp_processor_id();
	return e;
}

static __always_inline void fill_dev(struct event *e, struct net_device *dev)
{
	if (!dev)
		return;
	e->ifindex = BPF_CORE_READ(dev, ifindex);
	e->netns = dev_netns(dev);
	bpf_probe_read_kernel(e->dev, sizeof(e->dev), &dev->name);
}

static __always_inline void fill_skb(struct event *e, struct sk_buff *skb, const struct packet *p)
{
	e->skb = (__u64)skb;
	e->head = (__u64)KREAD(skb, head);
	e->sock = (__u64)BPF_CORE_READ(skb, sk);
	e->mark = KREAD(skb, mark);
	e->pkt_type = skb_pkt_type(skb);
	e->pkt = *p;
	if (skb_has_bridge_nf(skb))
		e->pkt.flags |= EV_BRIDGE_NF;
	if (skb_gso_size(skb))
		e->pkt.flags |= EV_GSO;
	fill_dev(e, skb_dev(skb));
}

#endif
