/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where the parser works, in the two forms every object with a parser is compiled in.
 *
 * As a rule its functions are global BPF functions: the verifier checks each once on its own instead
 * of once per path through its callers, and they are given memory on the stack (5.12).
 *
 * Kernels before that get the form with INLINE_PARSER: one function without calls, because with calls
 * they compare the value of every register before they take two states for one (precision in programs
 * with subprograms: 6.3), working in a map's value, of which the verifier does not track the content.
 * Both together let the branches of the parser meet again: with calls, or on the stack, one program
 * took 685,000 checked instructions.
 */
#ifndef PATHTRACE_ROOM_H
#define PATHTRACE_ROOM_H

#include "maps.h"

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

#ifdef INLINE_PARSER

#define CHECKED_ONCE static __always_inline
#define OUT_OF_LINE static __always_inline

/* An interrupt may come while a packet is parsed, and bring one of ours. */
#define MAX_NESTING 4

struct room {
	struct packet packet;
	struct inet inet;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_NESTING);
	__type(key, __u32);
	__type(value, struct room);
} rooms SEC(".maps");

/* How many of the processor's rooms are taken. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nesting SEC(".maps");

/*
 * Needs no atomic operation: whoever interrupts this is done before it goes on, and leaves the count
 * as it was.
 */
static __always_inline struct packet *take_room(__u8 hook)
{
	__u32 zero = 0, level, *depth = bpf_map_lookup_elem(&nesting, &zero);
	struct room *r;

	if (!depth)
		return NULL;
	level = *depth;
	r = bpf_map_lookup_elem(&rooms, &level);
	if (!r) {
		count_lost(hook);
		return NULL;
	}
	*depth = level + 1;
	return &r->packet;
}

static __always_inline void leave_room(struct packet **p)
{
	__u32 zero = 0, *depth = bpf_map_lookup_elem(&nesting, &zero);

	if (*p && depth)
		*depth -= 1;
}

/*
 * Declares p, a packet to be filled, until the end of the block. NULL if there is no room: that is
 * counted as lost under the hook.
 */
#define PACKET(p, hook) struct packet *p __attribute__((cleanup(leave_room))) = take_room(hook)

#define INET(ip, p) struct inet *ip = &((struct room *)(p))->inet

#else

#define CHECKED_ONCE __noinline
#define OUT_OF_LINE static __noinline
#define PACKET(p, hook) struct packet p##_room, *p = &p##_room
/* Set: Linux 5.12 to 5.16 take no pointer to stack that is not, where a function gets one. */
#define INET(ip, p) struct inet ip##_room = {}, *ip = &ip##_room

#endif

#endif
