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

/* What the first look at a packet tells. */
enum sight {
	STRANGER, /* not ours */
	CANDIDATE, /* may be ours */
	PASSING, /* may be ours, a segment in mid-connection: only a drop of it is reported */
};

/*
 * Who looks. A device reports no segment in mid-connection, whoever's it is, and most of what it sees are
 * such: it asks for their flags before their ends.
 */
enum looker {
	AT_HOOK,
	AT_DEVICE,
};

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

/* flags: the byte of a TCP header, with whatever is above it. A segment that neither opens, closes nor resets. */
static __always_inline bool passes(__u64 flags)
{
	return !config.all_packets && !(flags & (TCP_SYN | TCP_FIN | TCP_RST));
}

/* The same of the segment whose header is at offset l4. */
static __always_inline bool in_midst(const struct sk_buff *skb, __u32 l4)
{
	if (l4 + 20 > skb->tail)
		return false;
	/* RFC 9293, 3.1: acknowledgment, offset, flags, window */
	return passes(word_at(skb->head + l4 + 8) >> 40);
}

/* A plain header of ours, by its ends: source and destination ports as they stand there. */
static __always_inline enum sight sight_of(const struct sk_buff *skb, __u32 l4, __u32 source,
					   __u32 dest, __u32 ports, __u8 proto)
{
	if (proto == IPPROTO_UDP && is_vxlan_port(bpf_ntohl(ports)))
		return CANDIDATE;
	if (!ends_marked(source, dest, ports, proto))
		return STRANGER;
	return proto == IPPROTO_TCP && in_midst(skb, l4) ? PASSING : CANDIDATE;
}

/*
 * The first double words of a packet, from the IP header on: read where they are, one by one as they are
 * asked for, or copied before. Which it is, the compiler knows.
 */
struct head {
	const struct sysinfo *there;
	const __u64 *copied; /* NULL: not copied */
};

static __always_inline __u64 word_of(const struct head h, const int i)
{
	return h.copied ? h.copied[i] : cast_word(h.there, i);
}

/*
 * Anything but a plain TCP or UDP header goes to the parser. Double words of an IPv4 header (RFC 791,
 * 3.1): 0 version and length .. fragment offset; 1 ttl, protocol, checksum, source; 2 destination
 * and, without options, the ports; 4 TCP's offset, flags, ...
 */
static __always_inline enum sight judge_v4(const struct sk_buff *skb, __u32 l3, const struct head h,
					   const enum looker at)
{
	__u64 first = bpf_be64_to_cpu(word_of(h, 0)), second, third;
	__u8 proto;

	if (first >> 56 != 0x45 || first & (IP_MF | IP_OFFSET))
		return CANDIDATE;
	second = word_of(h, 1);
	proto = second >> 8;
	if (at == AT_DEVICE && proto == IPPROTO_TCP && l3 + 40 <= skb->tail &&
	    passes(word_of(h, 4) >> 8))
		return PASSING;
	if (!is_plain_transport(proto))
		return proto == IPPROTO_ICMP ? CANDIDATE : STRANGER;
	third = word_of(h, 2);
	return sight_of(skb, l3 + 20, fold_v4(second >> 32), fold_v4(third), third >> 32, proto);
}

/*
 * Double words of an IPv6 header (RFC 8200, 3): 0 version .. next header, hop limit; 1-2 source; 3-4
 * destination; 5 the ports, if there are no extension headers; 6 TCP's acknowledgment, offset, flags.
 */
static __always_inline enum sight judge_v6(const struct sk_buff *skb, __u32 l3, const struct head h,
					   const enum looker at)
{
	__u8 proto = word_of(h, 0) >> 48;
	__u64 source, dest;

	if (at == AT_DEVICE && proto == IPPROTO_TCP && l3 + 60 <= skb->tail &&
	    passes(word_of(h, 6) >> 40))
		return PASSING;
	if (!is_plain_transport(proto))
		return CANDIDATE;
	source = word_of(h, 1) ^ word_of(h, 2);
	dest = word_of(h, 3) ^ word_of(h, 4);
	return sight_of(skb, l3 + 40, source ^ source >> 32, dest ^ dest >> 32, word_of(h, 5),
			proto);
}

/*
 * room is for what has to be copied, no more than is read: all programs that call each other have 512 bytes of
 * stack together.
 */
#define ROOM_AT_HOOK 6
#define ROOM_AT_DEVICE 7

static __always_inline enum sight look_v4(const struct sk_buff *skb, __u32 l3, __u64 *room,
					  const enum looker at)
{
	const void *header = skb->head + l3;

	if (can_cast())
		return judge_v4(skb, l3, (struct head){ .there = cast_words(header) }, at);
	if (bpf_probe_read_kernel(room, at == AT_DEVICE ? 40 : 24, header))
		return STRANGER;
	return judge_v4(skb, l3, (struct head){ .copied = room }, at);
}

static __always_inline enum sight look_v6(const struct sk_buff *skb, __u32 l3, __u64 *room,
					  const enum looker at)
{
	const void *header = skb->head + l3;

	if (can_cast())
		return judge_v6(skb, l3, (struct head){ .there = cast_words(header) }, at);
	if (bpf_probe_read_kernel(room, at == AT_DEVICE ? 56 : 48, header))
		return STRANGER;
	return judge_v6(skb, l3, (struct head){ .copied = room }, at);
}

static __always_inline enum sight look_from(struct sk_buff *skb, __u32 l3, __u64 *room,
					    const enum looker at)
{
	__be16 proto = skb->protocol;

	if (proto == bpf_htons(ETH_P_IP))
		return look_v4(skb, l3, room, at);
	if (proto == bpf_htons(ETH_P_IPV6))
		return look_v6(skb, l3, room, at);
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD) ? CANDIDATE
										   : STRANGER;
}

static __always_inline enum sight look(struct sk_buff *skb, __u32 l3)
{
	__u64 room[ROOM_AT_HOOK];

	return look_from(skb, l3, room, AT_HOOK);
}

static __always_inline enum sight look_at_device(struct sk_buff *skb, __u32 l3)
{
	__u64 room[ROOM_AT_DEVICE];

	return look_from(skb, l3, room, AT_DEVICE);
}

static __always_inline bool candidate(struct sk_buff *skb, __u32 l3)
{
	return look(skb, l3) != STRANGER;
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
