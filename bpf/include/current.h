/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The packet of ours that is inside a netfilter hook on this processor. */
#ifndef PATHTRACE_CURRENT_H
#define PATHTRACE_CURRENT_H

#include "maps.h"

static __always_inline struct current *get_current(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&current_packet, &zero);
}

static __always_inline bool is_current(const struct current *now, struct sk_buff *skb)
{
	return now->skb == (__u64)skb;
}

#endif
