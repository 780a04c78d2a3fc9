/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Copying a packet's first bytes into its record. settings.snaplen is known to the verifier, which
 * removes all of this where it is 0: a trace that asks for no bytes runs the same instructions as ever.
 */
#ifndef PATHTRACE_CAPTURE_H
#define PATHTRACE_CAPTURE_H

#include "filter.h"

/* include/uapi/linux/if_arp.h */
#define ARPHRD_ETHER 1
#define ARPHRD_LOOPBACK 772

/* The most bytes before skb->data: a link-layer, an IP and a transport header. */
#define CAPTURE_HEAD 160
#define MAX_CAPTURED 65535

#define EVENT_CAPTURED (EVENT_WHOLE + sizeof(struct capture))

/*
 * The length of the Ethernet header before the network header at l3, 0 if there is none, or only the
 * one with which the packet came in by another device: routing leaves that in the buffer until the next
 * one is written over it.
 */
static __always_inline __u32 link_header(const struct event *e, struct sk_buff *skb, __u32 l3)
{
	const struct net_device *dev = skb_dev(skb);
	__u32 mac = skb->mac_header, size = l3 - mac;
	__u16 type = PEEK(dev, type);

	if (mac > l3 || size < ETH_HLEN || size > ETH_HLEN + 2 * VLAN_HLEN)
		return 0;
	if (type != ARPHRD_ETHER && type != ARPHRD_LOOPBACK)
		return 0;
	/* net_dev_queue .. netif_receive_skb; whatever else still is in the link layer; what came in here. */
	if (e->hook <= HOOK_DEV_RECEIVE || skb_data(skb) <= mac || skb_has_bridge_nf(skb) ||
	    skb->skb_iif == PEEK(dev, ifindex))
		return size;
	return 0;
}

/* A bound that the verifier sees, too: the compiler knows neither the value nor the limit. */
static __always_inline __u64 at_most(__u64 n, __u32 limit)
{
	if (n > limit)
		n = limit;
	barrier_var(n);
	return n > limit ? 0 : n;
}

/* Copies the linear part from the offset start of skb->head on, and returns how much. */
static __always_inline __u64 copy_linear(void *to, struct sk_buff *skb, __u32 start)
{
	__u32 tail = skb->tail;
	__u64 n = at_most(tail > start ? tail - start : 0, config.snaplen);

	return bpf_probe_read_kernel(to, n, skb->head + start) ? 0 : n;
}

/*
 * bpf_dynptr_from_skb (6.4; in tracing programs 6.12) reads what lies in pages. It counts from skb->data;
 * what was taken off before that is read as above.
 */
extern int bpf_dynptr_from_skb(struct sk_buff *skb, __u64 flags,
			       struct bpf_dynptr *ptr__uninit) __ksym __weak;

static __always_inline __u64 copy_pages(void *to, struct sk_buff *skb, __u32 start)
{
	__u32 data = skb_data(skb);
	__u64 head = start < data ? data - start : 0, at = start < data ? 0 : start - data, n;
	struct bpf_dynptr ptr;

	if (head > CAPTURE_HEAD || at > skb->len)
		return 0;
	barrier_var(head);
	if (head > CAPTURE_HEAD || bpf_probe_read_kernel(to, head, skb->head + start))
		return 0;
	n = at_most(skb->len - at, config.snaplen);
	if (bpf_dynptr_from_skb(skb, 0, &ptr) || bpf_dynptr_read(to + head, n, &ptr, at, 0))
		return 0;
	n += head;
	return n > MAX_CAPTURED ? MAX_CAPTURED : n;
}

OUT_OF_LINE int capture(struct event *e, struct sk_buff *skb, __u32 l3)
{
	struct capture *c = (void *)e + EVENT_WHOLE;
	__u32 link = link_header(e, skb, l3), start = l3 - link;
	__u64 n = config.pages ? copy_pages(c + 1, skb, start) : 0;

	if (!n)
		n = copy_linear(c + 1, skb, start);
	c->length = skb->len + skb_data(skb) - start;
	c->captured = n;
	c->link = link;
	c->vlan_tci = skb->vlan_tci;
	c->vlan_proto = bpf_ntohs(skb->vlan_proto);
	c->pad = 0;
	e->hook |= HOOK_CAPTURED;
	return 0;
}

#endif
