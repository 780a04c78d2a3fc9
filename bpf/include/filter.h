/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Is this packet ours? The packet that is not costs one header read and one array access; only a
 * candidate is parsed and looked up exactly.
 */
#ifndef PATHTRACE_FILTER_H
#define PATHTRACE_FILTER_H

#include "parse.h"

/* internal/probe computes the same mark; a test holds both together. */
static __always_inline __u32 mark_of(__u32 folded, __u16 port, __u8 proto)
{
	__u32 h = folded ^ ((__u32)port << 16 | proto);

	h *= 0x9E3779B1;
	return h >> 16;
}

static __always_inline __u32 fold_v4(__u32 addr)
{
	return addr ^ MAPPED_PREFIX;
}

static __always_inline __u32 fold(const __u32 *addr)
{
	return addr[0] ^ addr[1] ^ addr[2] ^ addr[3];
}

static __always_inline const struct mark *mark_at(__u32 folded, __u16 port, __u8 proto)
{
	return &marks[mark_of(folded, port, proto) & (MARKS_SIZE - 1)];
}

static __always_inline bool marked(__u32 folded, __u16 port, __u8 proto)
{
	return *(const __u16 *)mark_at(folded, port, proto);
}

/* ports: source and destination as they stand in the header, the source first. */
static __always_inline bool ends_marked(__u32 source, __u32 dest, __u32 ports, __u8 proto)
{
	__u32 host = bpf_ntohl(ports);

	return marked(dest, host & 0xFFFF, proto) || marked(source, host >> 16, proto);
}

/*
 * Anything but a plain TCP or UDP header goes to the parser. Double words of an IPv4 header (RFC 791,
 * 3.1): 0 version and length .. fragment offset; 1 ttl, protocol, checksum, source; 2 destination
 * and, without options, the ports.
 */
static __always_inline bool candidate_v4(const void *header)
{
	__u64 w[4], first;
	__u32 ports;
	__u8 proto;

	if (!read_words(w, header, 4))
		return false;
	first = bpf_be64_to_cpu(w[0]);
	if (first >> 56 != 0x45 || first & (IP_MF | IP_OFFSET))
		return true;
	proto = bpf_be64_to_cpu(w[1]) >> 48;
	if (!is_plain_transport(proto))
		return proto == IPPROTO_ICMP;
	ports = w[2] >> 32;
	if (proto == IPPROTO_UDP && is_vxlan_port(bpf_ntohl(ports)))
		return true;
	return ends_marked(fold_v4(w[1] >> 32), fold_v4(w[2]), ports, proto);
}

static __always_inline __u32 fold_words(__u64 a, __u64 b)
{
	a ^= b;
	return a ^ a >> 32;
}

/*
 * Double words of an IPv6 header (RFC 8200, 3): 0 version .. next header, hop limit; 1-2 source; 3-4
 * destination; 5 the ports, if there are no extension headers.
 */
static __always_inline bool candidate_v6(const void *header)
{
	__u32 ports;
	__u64 w[6];
	__u8 proto;

	if (!read_words(w, header, 6))
		return false;
	proto = bpf_be64_to_cpu(w[0]) >> 8;
	if (!is_plain_transport(proto))
		return true;
	ports = w[5];
	if (proto == IPPROTO_UDP && is_vxlan_port(bpf_ntohl(ports)))
		return true;
	return ends_marked(fold_words(w[1], w[2]), fold_words(w[3], w[4]), ports, proto);
}

static __always_inline bool candidate(struct sk_buff *skb, __u32 l3)
{
	__be16 proto = skb->protocol;

	if (proto == bpf_htons(ETH_P_IP))
		return candidate_v4(skb->head + l3);
	if (proto == bpf_htons(ETH_P_IPV6))
		return candidate_v6(skb->head + l3);
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

static __always_inline bool is_endpoint(const __u32 *addr, __u16 port, __u8 proto)
{
	struct endpoint key = { .port = port, .proto = proto };

	__builtin_memcpy(key.addr, addr, 16);
	return bpf_map_lookup_elem(&endpoints, &key) != NULL;
}

/*
 * The exact look-up: an end that is watched, or a tuple that is followed. The key is a copy: before
 * 6.2 a map takes no argument of a global function as key or value.
 */
CHECKED_ONCE int ours(const struct tuple *t)
{
	const struct mark *source, *dest;
	struct tuple key;

	if (!t)
		return 0;
	dest = mark_at(fold(t->daddr), t->dport, t->proto);
	source = mark_at(fold(t->saddr), t->sport, t->proto);
	key = *t;
	if (!config.exact && ((dest->endpoint && is_endpoint(key.daddr, key.dport, key.proto)) ||
			      (source->endpoint && is_endpoint(key.saddr, key.sport, key.proto))))
		return 1;
	return dest->flow && source->flow && bpf_map_lookup_elem(&flows, &key) != NULL;
}

/* Default detail: the segments that open, close or reset; everything for other protocols. */
static __always_inline bool in_detail(const struct packet *p)
{
	if (config.all_packets || p->tuple.proto != IPPROTO_TCP || p->flags & EV_ICMP_ERROR)
		return true;
	return p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST);
}

/* The exact answer for a candidate: true if the packet is ours; p is then filled. */
static __always_inline bool confirm(struct sk_buff *skb, __u32 l3, struct packet *p)
{
	return parse_packet(skb, l3, p) && ours(&p->tuple);
}

#endif
