/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Headers -> struct packet. This is the slow path: it runs only for packets that may be ours and
 * handles what the fast path of filter.h leaves out (IP options, extension headers, fragments, VLAN
 * tags, ICMP, VXLAN). Everything is read through one bounds check against the linear part.
 */
#ifndef PATHTRACE_PARSE_H
#define PATHTRACE_PARSE_H

#include "maps.h"
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

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04

#define IP_MF 0x2000
#define IP_OFFSET 0x1FFF
#define MAPPED_PREFIX bpf_htonl(0xFFFF)
#define MAX_EXTENSION_HEADERS 6

/*
 * The linear part of a packet: offsets count from skb->head. The parser's functions are global, so
 * that the verifier checks each once on its own instead of once per path through its callers; they
 * can be given plain memory only (5.12), hence this copy of what they need of the skb.
 */
struct cursor {
	__u64 head; /* address */
	__u32 end;
	__u32 l3; /* offset of the network header */
	__u32 length; /* of the packet from l3 on */
	__u16 protocol; /* skb->protocol, host order */
	__u16 vlan; /* a tag beside the packet */
};

/* What an IP header says, of either version. */
struct inet {
	__u32 saddr[4];
	__u32 daddr[4];
	__u32 l4; /* offset of the transport header */
	__u32 id;
	__u32 length; /* of the whole packet as the header says; 0 for a jumbo or GSO packet */
	__u32 header; /* bytes before the transport header */
	__u8 proto;
	__u8 ttl;
	__u8 fragment; /* 0 none, 1 first, 2 later */
	__u8 pad[5];
};

static __always_inline bool pull(const struct cursor *c, __u32 at, void *to, __u32 size)
{
	if (at > 65535 || at + size > c->end)
		return false;
	return bpf_probe_read_kernel(to, size, (const void *)(c->head + at)) == 0;
}

static __always_inline bool parse_ipv4(const struct cursor *c, __u32 at, struct inet *ip)
{
	__u8 h[20];
	__u16 frag;

	if (!pull(c, at, h, sizeof(h)) || (h[0] >> 4) != 4 || (h[0] & 15) < 5)
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
	__u8 h[8];

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

static __always_inline bool parse_ipv6(const struct cursor *c, __u32 at, struct inet *ip)
{
	__u8 h[40];
	__u32 next, start = at;

	if (!pull(c, at, h, sizeof(h)) || (h[0] >> 4) != 6)
		return false;
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
__noinline int parse_ip(const struct cursor *c, __u32 at, struct inet *ip)
{
	__u8 version;

	if (!c || !ip)
		return 0;
	__builtin_memset(ip, 0, sizeof(*ip));
	if (!pull(c, at, &version, 1))
		return 0;
	if (version >> 4 == 4)
		return parse_ipv4(c, at, ip);
	return parse_ipv6(c, at, ip);
}

static __always_inline void set_tuple(struct tuple *t, const struct inet *ip)
{
	__builtin_memcpy(t->saddr, ip->saddr, 16);
	__builtin_memcpy(t->daddr, ip->daddr, 16);
	t->proto = ip->proto;
	t->sport = t->dport = 0;
}

static __always_inline bool is_echo(__u8 proto, __u8 type, bool *reply)
{
	if (proto == IPPROTO_ICMP) {
		*reply = type == 0;
		return type == 0 || type == 8;
	}
	*reply = type == 129;
	return type == 128 || type == 129;
}

/* ICMP errors quote the packet they are about (RFC 792, RFC 4443). */
static __always_inline bool is_icmp_error(__u8 proto, __u8 type)
{
	if (proto == IPPROTO_ICMP)
		return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

static __always_inline bool parse_ports(const struct cursor *c, const struct inet *ip,
					struct packet *p)
{
	__u8 h[4];

	if (!pull(c, ip->l4, h, sizeof(h)))
		return false;
	p->tuple.sport = h[0] << 8 | h[1];
	p->tuple.dport = h[2] << 8 | h[3];
	return true;
}

static __always_inline void set_payload(struct packet *p, __u32 all, __u32 headers)
{
	__u32 n = all > headers ? all - headers : 0;

	p->payload = n > 65535 ? 65535 : n;
}

static __always_inline bool parse_tcp(const struct cursor *c, const struct inet *ip,
				      struct packet *p)
{
	__u8 h[16];

	if (!pull(c, ip->l4, h, sizeof(h)))
		return false;
	p->tuple.sport = h[0] << 8 | h[1];
	p->tuple.dport = h[2] << 8 | h[3];
	p->seq = (__u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
	p->ack = (__u32)h[8] << 24 | h[9] << 16 | h[10] << 8 | h[11];
	p->tcp_flags = h[13];
	set_payload(p, p->length, ip->header + (h[12] >> 4) * 4);
	return true;
}

static __always_inline bool parse_icmp(const struct cursor *c, const struct inet *ip,
				       struct packet *p)
{
	bool reply = false;
	__u8 h[8];

	if (!pull(c, ip->l4, h, sizeof(h)))
		return false;
	p->icmp_type = h[0];
	p->icmp_code = h[1];
	if (is_icmp_error(ip->proto, h[0])) {
		p->flags |= EV_ICMP_ERROR;
		if (ip->proto == IPPROTO_ICMP)
			p->mtu = h[0] == 3 && h[1] == 4 ? h[6] << 8 | h[7] : 0;
		else if (h[0] == 2)
			p->mtu = (__u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
		return true;
	}
	if (!is_echo(ip->proto, h[0], &reply))
		return false;
	if (reply)
		p->tuple.dport = h[4] << 8 | h[5];
	else
		p->tuple.sport = h[4] << 8 | h[5];
	p->seq = h[6] << 8 | h[7];
	set_payload(p, p->length, ip->header + 8);
	return true;
}

/* Later fragments have no transport header: the first one told their tuple. */
static __always_inline bool parse_fragment(const struct inet *ip, struct packet *p)
{
	struct fragment_key key = {};
	struct tuple *t;

	p->flags |= EV_FRAGMENT;
	__builtin_memcpy(key.saddr, ip->saddr, 16);
	__builtin_memcpy(key.daddr, ip->daddr, 16);
	key.id = ip->id;
	key.proto = ip->proto;
	t = bpf_map_lookup_elem(&fragments, &key);
	if (!t)
		return false;
	p->tuple = *t;
	return true;
}

static __always_inline void remember_fragment(const struct inet *ip, const struct packet *p)
{
	struct fragment_key key = {};

	__builtin_memcpy(key.saddr, ip->saddr, 16);
	__builtin_memcpy(key.daddr, ip->daddr, 16);
	key.id = ip->id;
	key.proto = ip->proto;
	bpf_map_update_elem(&fragments, &key, &p->tuple, BPF_ANY);
}

/* Transport header of a packet whose IP header is known: fills tuple, sequence, flags. */
__noinline int parse_transport(const struct cursor *c, const struct inet *ip, struct packet *p)
{
	if (!c || !ip || !p)
		return 0;
	set_tuple(&p->tuple, ip);
	p->ttl = ip->ttl;
	p->ip_id = ip->id;
	if (ip->fragment == 2)
		return parse_fragment(ip, p);
	if (ip->fragment == 1)
		p->flags |= EV_FRAGMENT;
	switch (ip->proto) {
	case IPPROTO_TCP:
		if (parse_tcp(c, ip, p))
			return 1;
		/* A quoted packet may end after eight bytes. */
		p->flags |= EV_TRUNCATED;
		return parse_ports(c, ip, p);
	case IPPROTO_UDP:
		set_payload(p, p->length, ip->header + 8);
		return parse_ports(c, ip, p);
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return parse_icmp(c, ip, p);
	}
	return 0;
}

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
	if (!parse_transport(c, ip, p) || !(p->flags & EV_ICMP_ERROR))
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
	__u8 h[8], type[2];
	__u32 at, headers;

	if (!c || !ip || !p)
		return 0;
	at = ip->l4 + 8;
	headers = ip->header + 16 + ETH_HLEN;
	if (!pull(c, at, h, sizeof(h)) || !(h[0] & 0x08))
		return 0;
	if (!pull(c, at + 8 + 12, type, sizeof(type)))
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
	return parse_transport(c, ip, p);
}

/* Offset of the IP header behind in-packet VLAN tags, 0 if the frame does not hold IP. */
static __always_inline __u32 skip_vlan(const struct cursor *c, __u32 at, __u16 proto)
{
	__u8 h[4];

	for (int i = 0; i < 2; i++) {
		if (proto == ETH_P_IP || proto == ETH_P_IPV6)
			return at;
		if (proto != ETH_P_8021Q && proto != ETH_P_8021AD)
			return 0;
		if (!pull(c, at, h, sizeof(h)))
			return 0;
		proto = h[2] << 8 | h[3];
		at += VLAN_HLEN;
	}
	return proto == ETH_P_IP || proto == ETH_P_IPV6 ? at : 0;
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
	if (!parse_transport(c, &ip, p))
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
static __always_inline int parse_packet(struct sk_buff *skb, __u32 l3, struct packet *p)
{
	struct cursor c = {
		.head = (__u64)KREAD(skb, head),
		.end = KREAD(skb, tail),
		.l3 = l3,
		.protocol = bpf_ntohs(KREAD(skb, protocol)),
		.vlan = KREAD(skb, vlan_tci),
	};

	c.length = KREAD(skb, len) + ((__u64)KREAD(skb, data) - c.head) - l3;
	return parse_frame(&c, p);
}

#endif
