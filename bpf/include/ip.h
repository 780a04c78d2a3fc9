/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* IP headers of both versions: options, extension headers, fragments, VLAN tags before them. */
#ifndef PATHTRACE_IP_H
#define PATHTRACE_IP_H

#include "room.h"
#include "compat.h"
#include <bpf/bpf_endian.h>

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88A8
#define ETH_HLEN 14
#define VLAN_HLEN 4

#define IPPROTO_HOPOPTS 0
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_ICMPV6 58
#define IPPROTO_DSTOPTS 60
#define IP_MF 0x2000
#define IP_OFFSET 0x1FFF
#define MAPPED_PREFIX bpf_htonl(0xFFFF)
#define MAX_EXTENSION_HEADERS 4

/*
 * The linear part of a packet: offsets count from skb->head. The parser's functions are global, which
 * can be given plain memory only (room.h), hence this copy of what they need of the skb.
 */
struct cursor {
	__u64 head; /* address */
	__u32 end;
	__u32 l3; /* offset of the network header */
	__u32 length; /* of the packet from l3 on */
	__u16 protocol; /* skb->protocol, host order */
	__u16 vlan; /* a tag beside the packet */
};

/* Reads size bytes at an offset; to has room for whole double words. */
static __always_inline bool pull(const struct cursor *c, __u32 at, void *to, __u32 size)
{
	if (at > 65535 || at + size > c->end)
		return false;
	return read_words(to, (const void *)(c->head + at), (size + 7) / 8);
}

/* A buffer for pull. */
#define HEADER(name, size) __u8 name[(size + 7) / 8 * 8] __attribute__((aligned(8)))

static __always_inline bool parse_ipv4(const __u8 *h, __u32 at, struct inet *ip)
{
	__u16 frag;

	if ((h[0] & 15) < 5)
		return false;
	ip->saddr[2] = ip->daddr[2] = MAPPED_PREFIX;
	__builtin_memcpy(&ip->saddr[3], h + 12, 4);
	__builtin_memcpy(&ip->daddr[3], h + 16, 4);
	ip->length = h[2] << 8 | h[3];
	ip->id = h[4] << 8 | h[5];
	ip->ttl = h[8];
	ip->proto = h[9];
	ip->header = (h[0] & 15) * 4;
	ip->l4 = at + ip->header;
	frag = h[6] << 8 | h[7];
	ip->fragment = frag & IP_OFFSET ? 2 : frag & IP_MF ? 1 : 0;
	return true;
}

/* One extension header (RFC 8200, 4): the offset of what follows it, 0 if it is not one. */
static __always_inline __u32 skip_extension(const struct cursor *c, __u32 at, struct inet *ip)
{
	HEADER(h, 8);

	switch (ip->proto) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
	case IPPROTO_FRAGMENT:
		break;
	default:
		return 0;
	}
	if (!pull(c, at, h, sizeof(h)))
		return 0;
	if (ip->proto == IPPROTO_FRAGMENT) {
		__u16 frag = h[2] << 8 | h[3];

		ip->id = (__u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
		ip->fragment = frag & 0xFFF8 ? 2 : 1;
		at += 8;
	} else if (ip->proto == IPPROTO_AH) {
		at += (h[1] + 2) * 4;
	} else {
		at += (h[1] + 1) * 8;
	}
	ip->proto = h[0];
	return at;
}

static __always_inline bool parse_ipv6(const struct cursor *c, const __u8 *h, __u32 at,
				       struct inet *ip)
{
	__u32 next, start = at;

	__builtin_memcpy(ip->saddr, h + 8, 16);
	__builtin_memcpy(ip->daddr, h + 24, 16);
	ip->length = (h[4] << 8 | h[5]) + 40;
	ip->proto = h[6];
	ip->ttl = h[7];
	at += 40;
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		next = skip_extension(c, at, ip);
		if (!next)
			break;
		at = next;
		if (ip->fragment == 2)
			break;
	}
	ip->l4 = at;
	ip->header = at - start;
	return true;
}

/* Parses the IP header at offset `at`; the version nibble decides. */
CHECKED_ONCE int parse_ip(const struct cursor *c, __u32 at, struct inet *ip)
{
	HEADER(h, 40);

	if (!c || !ip)
		return 0;
	__builtin_memset(ip, 0, sizeof(*ip));
	if (!pull(c, at, h, 20))
		return 0;
	if (h[0] >> 4 == 4)
		return parse_ipv4(h, at, ip);
	return h[0] >> 4 == 6 && pull(c, at, h, 40) && parse_ipv6(c, h, at, ip);
}

static __always_inline bool is_vlan(__u16 protocol)
{
	return protocol == ETH_P_8021Q || protocol == ETH_P_8021AD;
}

/* Offset of the IP header behind in-packet VLAN tags, 0 if the frame does not hold IP. */
static __always_inline __u32 skip_vlan(const struct cursor *c, __u32 at, __u16 proto)
{
	HEADER(h, 4);

	for (int i = 0; i < 2; i++) {
		if (proto == ETH_P_IP || proto == ETH_P_IPV6)
			return at;
		if (!is_vlan(proto))
			return 0;
		if (!pull(c, at, h, 4))
			return 0;
		proto = h[2] << 8 | h[3];
		at += VLAN_HLEN;
	}
	return proto == ETH_P_IP || proto == ETH_P_IPV6 ? at : 0;
}

#endif
