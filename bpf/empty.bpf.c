// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The yardstick of `make bench`: programs that do nothing, on the hooks that are measured. What they
 * cost is the kernel's price of a program there; nothing else attaches them.
 */
#include "include/vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("tp_btf/net_dev_queue")
int BPF_PROG(empty_net_dev_queue, struct sk_buff *skb)
{
	return 0;
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(empty_net_dev_start_xmit, struct sk_buff *skb)
{
	return 0;
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(empty_netif_receive_skb, struct sk_buff *skb)
{
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(empty_kfree_skb, struct sk_buff *skb)
{
	return 0;
}

SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(empty_skb_copy_datagram_iovec, struct sk_buff *skb)
{
	return 0;
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(empty_sk_data_ready, struct sock *sk)
{
	return 0;
}

SEC("tp_btf/fib_table_lookup")
int BPF_PROG(empty_fib_table_lookup, __u32 table)
{
	return 0;
}

SEC("netfilter")
int empty_netfilter_enter(struct bpf_nf_ctx *ctx)
{
	return 1;
}

SEC("netfilter")
int empty_netfilter_leave(struct bpf_nf_ctx *ctx)
{
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
