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

static __always_inline struct marks *get_marks(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&marks, &zero);
}

static __always_inline bool marked(const struct marks *m, __u32 folded, __u16 port, __u8 proto)
{
	return m->byte[mark_of(folded, port, proto) & (MARKS_SIZE - 1)];
}

struct ports {
	__be16 source;
	__be16 dest;
};

static __always_inline bool ends_marked(__u32 source, __u32 dest, struct ports ports, __u8 proto)
{
	const struct marks *m = get_marks();

	if (!m)
		return false;
	return marked(m, dest, bpf_ntohs(ports.dest), proto) ||
	       marked(m, source, bpf_ntohs(ports.source), proto);
}

struct head_v4 {
	__u8 vihl, tos;
	__be16 length, id, frag;
	__u8 ttl, proto;
	__sum16 check;
	__u32 saddr, daddr;
	struct ports ports;
};

/* Anything but a plain TCP or UDP header goes to the parser. */
static __always_inline bool candidate_v4(const void *header)
{
	struct head_v4 h;

	if (bpf_probe_read_kernel(&h, sizeof(h), header))
		return false;
	if (h.vihl != 0x45 || h.frag & bpf_htons(IP_MF | IP_OFFSET))
		return true;
	if (h.proto != IPPROTO_TCP) {
		if (h.proto != IPPROTO_UDP)
			return h.proto == IPPROTO_ICMP;
		if (is_vxlan_port(bpf_ntohs(h.ports.dest)))
			return true;
	}
	return ends_marked(fold_v4(h.saddr), fold_v4(h.daddr), h.ports, h.proto);
}

struct head_v6 {
	__u32 flow;
	__be16 length;
	__u8 proto, ttl;
	__u32 saddr[4], daddr[4];
	struct ports ports;
};

static __always_inline bool candidate_v6(const void *header)
{
	struct head_v6 h;

	if (bpf_probe_read_kernel(&h, sizeof(h), header))
		return false;
	if (h.proto != IPPROTO_TCP) {
		if (h.proto != IPPROTO_UDP)
			return true;
		if (is_vxlan_port(bpf_ntohs(h.ports.dest)))
			return true;
	}
	return ends_marked(fold(h.saddr), fold(h.daddr), h.ports, h.proto);
}

static __always_inline bool candidate(struct sk_buff *skb, __u32 l3)
{
	__be16 proto = KREAD(skb, protocol);

	if (proto == bpf_htons(ETH_P_IP))
		return candidate_v4(KREAD(skb, head) + l3);
	if (proto == bpf_htons(ETH_P_IPV6))
		return candidate_v6(KREAD(skb, head) + l3);
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

static __always_inline bool is_endpoint(const __u32 *addr, __u16 port, __u8 proto)
{
	struct endpoint key = { .port = port, .proto = proto };

	__builtin_memcpy(key.addr, addr, 16);
	return bpf_map_lookup_elem(&endpoints, &key) != NULL;
}

/* The exact look-up: an end that is watched, or a tuple that is followed. */
__noinline int ours(const struct tuple *t)
{
	if (!t)
		return 0;
	return is_endpoint(t->daddr, t->dport, t->proto) ||
	       is_endpoint(t->saddr, t->sport, t->proto) ||
	       bpf_map_lookup_elem(&flows, t) != NULL;
}

/* Default detail: the segments that open, close or reset; everything for other protocols. */
static __always_inline bool in_detail(const struct packet *p)
{
	if (config.all_packets || p->tuple.proto != IPPROTO_TCP || p->flags & EV_ICMP_ERROR)
		return true;
	return p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST);
}

/* True if the packet is ours; p is then filled. */
static __always_inline bool match(struct sk_buff *skb, __u32 l3, struct packet *p)
{
	return candidate(skb, l3) && parse_packet(skb, l3, p) && ours(&p->tuple);
}

#endif
