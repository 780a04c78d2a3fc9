// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Netfilter through BPF links (6.4): one program before the first and one after the last function
 * of each hook, in each namespace of the path, for IPv4 and IPv6. The kernel refuses the outermost
 * priorities (nf_bpf_link.c), so sabotage_in of br_netfilter stays before us and the confirmation
 * of a conntrack entry after us. Links vanish with their file descriptor.
 *
 * Not seen here: the bridge, netdev, arp and inet-ingress families, and namespaces that came up
 * after the trace began until user space has attached to them.
 */
#include "include/hook.h"
#include <bpf/bpf_tracing.h>

SEC("netfilter")
int netfilter_enter(struct bpf_nf_ctx *ctx)
{
	enter_hook(ctx->skb, ctx->state);
	return NF_ACCEPT;
}

SEC("netfilter")
int netfilter_leave(struct bpf_nf_ctx *ctx)
{
	leave_hook(ctx->skb, ctx->state);
	return NF_ACCEPT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
