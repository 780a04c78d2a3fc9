/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Segments in mid-connection on their way through a netfilter hook. They are reported only if they are
 * dropped: on their way in it is noted which one it was, without parsing it or looking it up, and on their
 * way out it is only seen whether the hook translated them.
 */
#ifndef PATHTRACE_SEGMENT_H
#define PATHTRACE_SEGMENT_H

#include "current.h"
#include "filter.h"

/* Reads a segment that look() found PASSING. */
static __always_inline void read_segment(struct sk_buff *skb, struct segment *s)
{
	const void *header = skb->head + skb->network_header;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		read_words(s->words, header, 4);
		s->words[1] >>= 32; /* the source, without time to live and checksum */
		s->words[4] = s->words[5] = 0;
	} else {
		read_words(s->words, header, 6);
	}
}

static __always_inline bool is_v4(const struct segment *s)
{
	return (s->words[0] & 0xF0) == 0x40;
}

/* The IP id and the sequence number, as the parser would have found them. */
static __always_inline void identify(const struct segment *s, struct current *now)
{
	if (is_v4(s)) {
		now->ip_id = bpf_ntohs(s->words[0] >> 32);
		now->seq = bpf_ntohl(s->words[3]);
	} else {
		now->ip_id = 0;
		now->seq = bpf_ntohl(s->words[5] >> 32);
	}
}

static __always_inline bool same_segment(const struct segment *a, const struct segment *b)
{
	__u64 differs = 0;

	for (int i = 0; i < 6; i++)
		differs |= a->words[i] ^ b->words[i];
	return !differs;
}

/* Was the segment that entered the hook ours? */
OUT_OF_LINE int segment_ours(const struct current *now)
{
	const __u64 *w = now->segment.words;
	struct tuple t = { .proto = IPPROTO_TCP };
	__u32 ports;

	if (is_v4(&now->segment)) {
		t.saddr[2] = t.daddr[2] = MAPPED_PREFIX;
		t.saddr[3] = w[1];
		t.daddr[3] = w[2];
		ports = w[2] >> 32;
	} else {
		__builtin_memcpy(t.saddr, w + 1, 16);
		__builtin_memcpy(t.daddr, w + 3, 16);
		ports = w[5];
	}
	ports = bpf_ntohl(ports);
	t.sport = ports >> 16;
	t.dport = ports;
	return ours(&t);
}

/* Is what is known of the packet that entered the hook enough to take it for ours? */
static __always_inline bool current_ours(const struct current *now)
{
	return !now->passing || segment_ours(now);
}

#endif
