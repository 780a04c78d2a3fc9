/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Headers -> struct packet. This is the slow path: it runs only for packets that may be ours and
 * handles what the fast path of filter.h leaves out (options, extension headers, fragments, VLAN
 * tags, ICMP errors, VXLAN). Everything is read through one bounds check against the linear part.
 */
#ifndef PATHTRACE_PARSE_H
#define PATHTRACE_PARSE_H

#include "transport.h"

/*
 * The packet that an ICMP error quotes becomes the tuple; the error's own ends become outer. ip is
 * used up: one structure serves both headers, the stack is small.
 */
__noinline int parse_quoted(const struct cursor *c, struct inet *ip, struct packet *p)
{
	__u8 type, code, ttl;
	__u32 length;

	if (!c || !ip || !p)
		return 0;
	type = p->icmp_type;
	code = p->icmp_code;
	ttl = p->ttl;
	length = p->length;
	p->outer = p->tuple;
	if (!parse_ip(c, ip->l4 + 8, ip))
		return 0;
	p->length = ip->length;
	if (ip->fragment == 2 || !parse_transport(c, ip, p) || !(p->flags & EV_ICMP_ERROR))
		return 0;
	p->icmp_type = type;
	p->icmp_code = code;
	p->ttl = ttl;
	p->length = length;
	return 1;
}

#define LANES 0x0001000100010001ULL

/* Compares with the four configured ports at once: a lane that becomes zero is a match. */
static __always_inline bool is_vxlan_port(__u16 port)
{
	__u64 x = config.vxlan_ports ^ port * LANES;

	return port && (x - LANES) & ~x & LANES << 15;
}

/* The frame inside a VXLAN packet (RFC 7348, 5) becomes the tuple, the UDP ends become outer; ip is used up. */
__noinline int parse_vxlan(const struct cursor *c, struct inet *ip, struct packet *p)
{
	HEADER(h, 8);
	HEADER(type, 2);
	__u32 at, headers;

	if (!c || !ip || !p)
		return 0;
	at = ip->l4 + 8;
	headers = ip->header + 16 + ETH_HLEN;
	if (!pull(c, at, h, sizeof(h)) || !(h[0] & 0x08))
		return 0;
	if (!pull(c, at + 8 + 12, type, 2))
		return 0;
	if (type[0] == 0x81 && type[1] == 0) {
		headers += VLAN_HLEN;
		at += VLAN_HLEN;
	}
	if (!parse_ip(c, at + 8 + ETH_HLEN, ip))
		return 0;
	p->outer = p->tuple;
	p->vni = (__u32)h[4] << 16 | h[5] << 8 | h[6];
	p->flags |= EV_ENCAPSULATED;
	p->length = p->length > headers ? p->length - headers : 0;
	return parse_payload(c, ip, p);
}

/* Fills p; non-zero if the packet holds something that can be followed. */
__noinline int parse_frame(const struct cursor *c, struct packet *p)
{
	struct inet ip;
	__u32 at;

	if (!c || !p)
		return 0;
	__builtin_memset(p, 0, sizeof(*p));
	at = skip_vlan(c, c->l3, c->protocol);
	if (!at || !parse_ip(c, at, &ip))
		return 0;
	if (at != c->l3 || c->vlan)
		p->flags |= EV_VLAN;
	p->length = c->length - (at - c->l3);
	if (!parse_payload(c, &ip, p))
		return 0;
	if (p->flags & EV_ICMP_ERROR)
		return parse_quoted(c, &ip, p);
	if (ip.fragment == 1)
		remember_fragment(&ip, p);
	if (ip.proto == IPPROTO_UDP && !ip.fragment && is_vxlan_port(p->tuple.dport))
		return parse_vxlan(c, &ip, p);
	return 1;
}

/* The same for a socket buffer whose network header is at offset l3 of its head. */
static __noinline int parse_packet(struct sk_buff *skb, __u32 l3, struct packet *p)
{
	struct cursor c = {
		.head = (__u64)skb->head,
		.end = skb->tail,
		.l3 = l3,
		.protocol = bpf_ntohs(skb->protocol),
		.vlan = skb->vlan_tci,
	};

	/* A tag inserted on the way out leaves the network header behind it (validate_xmit_vlan). */
	if (is_vlan(c.protocol) && l3 >= skb->mac_header + ETH_HLEN + VLAN_HLEN) {
		c.protocol = ETH_P_IP; /* of either version, which its first nibble tells */
		c.vlan = 1;
	}
	c.length = skb->len + ((__u64)skb->data - c.head) - l3;
	return parse_frame(&c, p);
}

#endif
