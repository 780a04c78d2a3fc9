/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Adding to what is followed, from inside the kernel. */
#ifndef PATHTRACE_FOLLOW_H
#define PATHTRACE_FOLLOW_H

#include "filter.h"

static __always_inline void set_mark(__u32 folded, __u16 port, __u8 proto)
{
	marks[mark_of(folded, port, proto) & (MARKS_SIZE - 1)].flow = 1;
}

static __always_inline struct tuple inverse(const struct tuple *t)
{
	struct tuple r = {
		.sport = t->dport,
		.dport = t->sport,
		.proto = t->proto,
	};

	__builtin_memcpy(r.saddr, t->daddr, 16);
	__builtin_memcpy(r.daddr, t->saddr, 16);
	return r;
}

/*
 * Follows a tuple that translation produced, and its inverse, so that the reply is caught at the
 * first device it touches. Both ends are marked: which of them is the known one is not known here.
 */
CHECKED_ONCE int follow(const struct tuple *t)
{
	struct tuple key, back;
	__u32 one = 1;

	if (!t)
		return 0;
	key = *t;
	back = inverse(&key);
	if (bpf_map_update_elem(&flows, &key, &one, BPF_ANY) ||
	    bpf_map_update_elem(&flows, &back, &one, BPF_ANY))
		count_lost(LOST_FLOW_TABLE);
	set_mark(fold(key.saddr), key.sport, key.proto);
	set_mark(fold(key.daddr), key.dport, key.proto);
	return 0;
}

#endif
