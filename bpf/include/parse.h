/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Headers -> struct packet, for packets that may be ours: a short way for plain TCP and UDP, a long
 * one for whatever the kernel may meet (options, extension headers, fragments, VLAN tags, ICMP
 * errors, VXLAN). Everything is read through one bounds check against the linear part.
 */
#ifndef PATHTRACE_PARSE_H
#define PATHTRACE_PARSE_H

#include "transport.h"

/*
 * The packet that an ICMP error quotes becomes the tuple; the error's own ends become outer. ip is
 * used up: one structure serves both headers, the stack is small.
 */
CHECKED_ONCE int parse_quoted(const struct cursor *c, struct inet *ip, struct packet *p)
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
CHECKED_ONCE int parse_vxlan(const struct cursor *c, struct inet *ip, struct packet *p)
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
CHECKED_ONCE int parse_frame(const struct cursor *c, struct packet *p)
{
	__u32 at;
	INET(ip, p);

	if (!c || !p)
		return 0;
	__builtin_memset(p, 0, sizeof(*p));
	at = skip_vlan(c, c->l3, c->protocol);
	if (!at || !parse_ip(c, at, ip))
		return 0;
	if (at != c->l3 || c->vlan)
		p->flags |= EV_VLAN;
	p->length = c->length - (at - c->l3);
	if (!parse_payload(c, ip, p))
		return 0;
	if (p->flags & EV_ICMP_ERROR)
		return parse_quoted(c, ip, p);
	if (ip->fragment == 1)
		remember_fragment(ip, p);
	if (ip->proto == IPPROTO_UDP && !ip->fragment && is_vxlan_port(p->tuple.dport))
		return parse_vxlan(c, ip, p);
	return 1;
}

static __always_inline bool is_plain_transport(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

/* The transport header at h, of which 16 bytes were read; p->length counts from the IP header on. */
static __always_inline bool parse_plain_transport(const __u8 *h, __u32 header, struct packet *p)
{
	p->tuple.sport = h[0] << 8 | h[1];
	p->tuple.dport = h[2] << 8 | h[3];
	if (p->tuple.proto == IPPROTO_UDP) {
		set_payload(p, p->length, header + 8);
		return !is_vxlan_port(p->tuple.dport);
	}
	p->seq = (__u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
	p->ack = (__u32)h[8] << 24 | h[9] << 16 | h[10] << 8 | h[11];
	p->tcp_flags = h[13];
	set_payload(p, p->length, header + (h[12] >> 4) * 4);
	return true;
}

static __always_inline bool parse_plain_v4(const void *header, struct packet *p)
{
	HEADER(h, 40);

	if (!read_words((__u64 *)h, header, 5))
		return false;
	if (h[0] != 0x45 || (h[6] << 8 | h[7]) & (IP_MF | IP_OFFSET) || !is_plain_transport(h[9]))
		return false;
	p->tuple.saddr[2] = p->tuple.daddr[2] = MAPPED_PREFIX;
	__builtin_memcpy(&p->tuple.saddr[3], h + 12, 4);
	__builtin_memcpy(&p->tuple.daddr[3], h + 16, 4);
	p->ip_id = h[4] << 8 | h[5];
	p->ttl = h[8];
	p->tuple.proto = h[9];
	return parse_plain_transport(h + 20, 20, p);
}

static __always_inline bool parse_plain_v6(const void *header, struct packet *p)
{
	HEADER(h, 56);

	if (!read_words((__u64 *)h, header, 7) || !is_plain_transport(h[6]))
		return false;
	__builtin_memcpy(p->tuple.saddr, h + 8, 16);
	__builtin_memcpy(p->tuple.daddr, h + 24, 16);
	p->tuple.proto = h[6];
	p->ttl = h[7];
	return parse_plain_transport(h + 40, 40, p);
}

/*
 * The short way of nearly all packets: TCP or UDP without options, extension headers, fragments,
 * tags, and long enough. 0 sends the packet the long way, whatever p holds by then. Neither of the two
 * is called by the other: a call's stack counts as long as it lasts, and all of them have 512 bytes.
 */
OUT_OF_LINE int parse_plain(struct sk_buff *skb, __u32 l3, struct packet *p)
{
	const void *header = skb->head + l3;
	__be16 proto = skb->protocol;

	__builtin_memset(p, 0, sizeof(*p));
	p->length = skb->len + skb_data(skb) - l3;
	if (skb->vlan_tci)
		return 0;
	if (proto == bpf_htons(ETH_P_IP))
		return l3 + 40 <= skb->tail && parse_plain_v4(header, p);
	return proto == bpf_htons(ETH_P_IPV6) && l3 + 56 <= skb->tail && parse_plain_v6(header, p);
}

OUT_OF_LINE int parse_odd(struct sk_buff *skb, __u32 l3, struct packet *p)
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
	c.length = skb->len + skb_data(skb) - l3;
	return parse_frame(&c, p);
}

/* Fills p from a socket buffer whose network header is at offset l3 of its head; 0 if it cannot. */
static __always_inline bool parse_packet(struct sk_buff *skb, __u32 l3, struct packet *p)
{
	return parse_plain(skb, l3, p) || parse_odd(skb, l3, p);
}

#endif
