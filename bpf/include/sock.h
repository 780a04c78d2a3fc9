/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Sockets that belong to a flow, for hooks that are given no packet. */
#ifndef PATHTRACE_SOCK_H
#define PATHTRACE_SOCK_H

#include "emit.h"

/* Two ends of a socket: source is the local one. */
static __always_inline void sock_tuple(struct tuple *t, const struct sock *sk, __u8 proto)
{
	__u16 family = sk->__sk_common.skc_family;

	t->proto = proto;
	t->sport = sk->__sk_common.skc_num;
	t->dport = bpf_ntohs(sk->__sk_common.skc_dport);
	if (family == 2) {
		t->saddr[2] = t->daddr[2] = MAPPED_PREFIX;
		t->saddr[3] = sk->__sk_common.skc_rcv_saddr;
		t->daddr[3] = sk->__sk_common.skc_daddr;
		return;
	}
	bpf_probe_read_kernel(t->saddr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	bpf_probe_read_kernel(t->daddr, 16, &sk->__sk_common.skc_v6_daddr);
}

/* Whether a socket's ends are ours, at the price of one array access for those that are not. */
static __always_inline bool sock_ours(const struct tuple *t)
{
	if (!marked(fold(t->daddr), t->dport, t->proto) &&
	    !marked(fold(t->saddr), t->sport, t->proto))
		return false;
	return ours(t);
}

#endif
