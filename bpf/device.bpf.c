// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Devices: every packet that a device is given, transmits or receives.
 *
 * net_dev_queue is in __dev_queue_xmit before the queueing discipline, net_dev_start_xmit right
 * before the driver, netif_receive_skb in __netif_receive_skb_core before taps and the bridge
 * (net/core/dev.c). All three exist since 3.12 or earlier, and as BTF tracepoints since 5.5. They
 * see every device, also veth, bridge and VXLAN, in every namespace, and are never skipped because
 * one runs already: softirqs are off or running at all of them, and nothing preempts there.
 *
 * Where nobody asks how long packets wait, qdisc_enqueue (5.14) stands for net_dev_queue: a device that has
 * no queueing discipline, as veth, bridge and VXLAN devices have none, gives what it is handed to its driver
 * at once, so that net_dev_start_xmit tells the same. It sees nothing of an empty queue that is bypassed.
 *
 * Not seen here: XDP (before the skb exists), packets that a driver drops after start_xmit, and
 * hardware offload. At netif_receive_skb the network header is not set yet; it is where data points.
 */
#include "include/emit.h"
#include <bpf/bpf_tracing.h>

#define TCQ_F_NOLOCK 0x100 /* include/net/sch_generic.h */

/* Out of line, so that the miss carries neither its stack nor its registers. */
OUT_OF_LINE int report(struct sk_buff *skb, __u32 l3, struct net_device *dev, __u8 hook)
{
	PACKET(p, hook);
	struct event *e;

	if (!p || !confirm(skb, l3, p) || !in_detail(p))
		return 0;
	e = event_new_packet(hook, EVENT_PLAIN);
	if (!e)
		return 0;
	fill_packet(e, skb, p, l3);
	fill_dev(e, dev);
	e->in_ifindex = skb->skb_iif;
	event_send(e);
	return 0;
}

static __always_inline bool wanted(struct sk_buff *skb, __u32 l3)
{
	return look_at_device(skb, l3) == CANDIDATE;
}

static __always_inline int report_queued(struct sk_buff *skb)
{
	__u32 l3 = skb->network_header;

	return wanted(skb, l3) ? report(skb, l3, skb_dev(skb), HOOK_DEV_QUEUE) : 0;
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(net_dev_queue, struct sk_buff *skb)
{
	return report_queued(skb);
}

/*
 * A discipline without a lock (pfifo_fast) may have given the packet away before the tracepoint tells of it:
 * its memory is not looked at.
 */
SEC("tp_btf/qdisc_enqueue")
int BPF_PROG(qdisc_enqueue, struct Qdisc *qdisc, void *txq, struct sk_buff *skb)
{
	return qdisc->flags & TCQ_F_NOLOCK ? 0 : report_queued(skb);
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(net_dev_start_xmit, struct sk_buff *skb, struct net_device *dev)
{
	__u32 l3 = skb->network_header;

	return wanted(skb, l3) ? report(skb, l3, dev, HOOK_DEV_XMIT) : 0;
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(netif_receive_skb, struct sk_buff *skb)
{
	__u32 l3 = skb_data(skb);

	return wanted(skb, l3) ? report(skb, l3, skb_dev(skb), HOOK_DEV_RECEIVE) : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
