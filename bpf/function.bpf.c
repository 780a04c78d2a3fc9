// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Netfilter through nf_hook_slow (net/netfilter/core.c), where functions can be probed (BPF
 * trampolines: x86-64 since 5.5, arm64 since 6.0): one attachment sees every hook of every family in
 * every namespace, also in those that come up later, and the verdict. Preferred to netfilter links
 * for that reason.
 *
 * Not seen here: hooks without any function, which the kernel does not enter, and bridge frames of
 * families other than IPv4 and IPv6.
 */
#include "include/hook.h"
#include <bpf/bpf_tracing.h>

#define NFPROTO_IPV4 2
#define NFPROTO_IPV6 10

static __always_inline bool is_inet(const struct nf_hook_state *state)
{
	return state->pf == NFPROTO_IPV4 || state->pf == NFPROTO_IPV6;
}

SEC("fentry/nf_hook_slow")
int BPF_PROG(nf_hook_slow_enter, struct sk_buff *skb, struct nf_hook_state *state)
{
	return is_inet(state) ? enter_hook(skb, state) : 0;
}

/* 1: every function accepted. After any other verdict the packet may be gone. */
SEC("fexit/nf_hook_slow")
int BPF_PROG(nf_hook_slow_leave, struct sk_buff *skb, struct nf_hook_state *state, void *entries,
	     unsigned int first, int verdict)
{
	return verdict == 1 && is_inet(state) ? leave_hook(skb, state) : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
