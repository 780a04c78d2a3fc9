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
	if (e->hook <= HOOK_DEV_RECEIVE || skb->data - skb->head <= mac || skb_has_bridge_nf(skb) ||
	    skb->skb_iif == PEEK(dev, ifindex))
		return size;
	return 0;
}

/* Only the linear part can be read: what lies in pages behind it is not copied. */
OUT_OF_LINE int capture(struct event *e, struct sk_buff *skb, __u32 l3)
{
	struct capture *c = (void *)e + EVENT_WHOLE;
	__u32 link = link_header(e, skb, l3), start = l3 - link, tail = skb->tail;
	__u64 n = tail > start ? tail - start : 0;

	if (n > config.snaplen)
		n = config.snaplen;
	barrier_var(n);
	if (n > config.snaplen || bpf_probe_read_kernel(c + 1, n, skb->head + start))
		n = 0;
	c->length = skb->len + (skb->data - skb->head) - start;
	c->captured = n;
	c->link = link;
	c->vlan_tci = skb->vlan_tci;
	c->vlan_proto = bpf_ntohs(skb->vlan_proto);
	c->pad = 0;
	e->hook |= HOOK_CAPTURED;
	return 0;
}

#endif
