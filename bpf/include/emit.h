/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Filling and sending a record. A record that does not fit is counted under its hook. */
#ifndef PATHTRACE_EMIT_H
#define PATHTRACE_EMIT_H

#include "capture.h"

static __always_inline struct event *event_begin(struct event *e, __u8 hook, const __u64 size)
{
	if (!e) {
		count_lost(hook);
		return NULL;
	}
	__builtin_memset(e, 0, size);
	e->time = bpf_ktime_get_ns();
	e->hook = hook;
	e->cpu = bpf_get_smp_processor_id();
	return e;
}

/* size is one of EVENT_*: what lies behind it is not there. */
static __always_inline struct event *event_new(__u8 hook, const __u64 size)
{
	return event_begin(bpf_ringbuf_reserve(&events, size, 0), hook, size);
}

/* The same for an observation of a packet, with room for its bytes if they are asked for. */
static __always_inline struct event *event_new_packet(__u8 hook, const __u64 size)
{
	if (!config.snaplen)
		return event_new(hook, size);
	return event_begin(bpf_ringbuf_reserve(&events, EVENT_CAPTURED + config.room, 0), hook,
			   EVENT_WHOLE);
}

/*
 * Waking the reader for each record would cost more than the record. It looks by itself every few
 * milliseconds while it follows something; the record that fills the buffer to WAKE_BYTES wakes it at
 * once, and so does the first one after it went to sleep.
 */
#define WAKE_BYTES (512 << 10)

static __always_inline bool wakes_reader(void)
{
	if (reader_sleeps) {
		reader_sleeps = 0;
		return true;
	}
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) - WAKE_BYTES < sizeof(struct event);
}

static __always_inline void event_send(struct event *e)
{
	bpf_ringbuf_submit(e, wakes_reader() ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

static __always_inline void fill_dev(struct event *e, struct net_device *dev)
{
	if (!dev)
		return;
	e->ifindex = PEEK(dev, ifindex);
	e->netns = dev_netns(dev);
	read_words((__u64 *)e->dev, &dev->name, 2);
}

/* l3: where the packet's network header is. The record has to be one of event_new_packet. */
static __always_inline void fill_packet(struct event *e, struct sk_buff *skb,
					const struct packet *p, __u32 l3)
{
	e->skb = (__u64)skb;
	e->head = (__u64)skb->head;
	e->sock = (__u64)PEEK(skb, sk);
	e->mark = skb->mark;
	e->pkt_type = skb_pkt_type(skb);
	e->pkt = *p;
	if (skb_has_bridge_nf(skb))
		e->pkt.flags |= EV_BRIDGE_NF;
	if (skb_gso_size(skb))
		e->pkt.flags |= EV_GSO;
	if (config.snaplen)
		capture(e, skb, l3);
}

static __always_inline void fill_skb(struct event *e, struct sk_buff *skb, const struct packet *p)
{
	fill_packet(e, skb, p, skb->network_header);
	fill_dev(e, skb_dev(skb));
}

#endif
