// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Route look-ups: fib_table_lookup (4.4) and fib6_table_lookup (4.6) with what they found.
 *
 * A failed look-up is the only trace of an answer that is never built because the target has no
 * route back. The look-up of the local table runs before that of the main table and fails for every
 * foreign address, so only the main table's failure counts.
 *
 * Not seen here: the packet (user space joins by processor and time), the namespace of a failed
 * IPv4 look-up (none is passed), and look-ups that the route cache of a socket saves.
 */
#include "include/emit.h"
#include <bpf/bpf_tracing.h>

#define RT_TABLE_MAIN 254
#define RTF_REJECT 0x0200

static __always_inline bool addr_ours(const __u32 *addr)
{
	return marked(fold(addr), 0, 0) && is_endpoint(addr, 0, 0);
}

static __always_inline bool is_unspecified(const __u32 *a)
{
	return !a[0] && !a[1] && !a[3] && (!a[2] || a[2] == MAPPED_PREFIX);
}

/*
 * Following one flow: both ends must be ours. Watching: clients are not known beforehand, so one
 * end is enough, and only failures are worth an event.
 */
static __always_inline bool route_ours(const struct tuple *t, bool failed)
{
	bool src, dst;

	dst = addr_ours(t->daddr);
	if (config.exact)
		return dst && (is_unspecified(t->saddr) || addr_ours(t->saddr));
	src = addr_ours(t->saddr);
	return failed && (src || dst);
}

static __always_inline void set_gateway(struct event *e, struct fib_nh_common *nh)
{
	__u8 family = BPF_CORE_READ(nh, nhc_gw_family);

	if (family == 2) {
		e->gateway[2] = MAPPED_PREFIX;
		e->gateway[3] = BPF_CORE_READ(nh, nhc_gw.ipv4);
	} else if (family == 10) {
		bpf_probe_read_kernel(e->gateway, 16, &nh->nhc_gw.ipv6);
	}
}

SEC("tp_btf/fib_table_lookup")
int BPF_PROG(fib_table_lookup, __u32 table, struct flowi4 *flow, struct fib_nh_common *nh, int err)
{
	struct tuple t = {};
	struct event *e;

	if (err && table != RT_TABLE_MAIN)
		return 0;
	t.saddr[2] = t.daddr[2] = MAPPED_PREFIX;
	t.saddr[3] = flow->saddr;
	t.daddr[3] = flow->daddr;
	if (!route_ours(&t, err))
		return 0;
	e = event_new(HOOK_ROUTE, EVENT_WHOLE);
	if (!e)
		return 0;
	t.proto = flow->__fl_common.flowic_proto;
	if (t.proto == IPPROTO_TCP || t.proto == IPPROTO_UDP) {
		t.sport = bpf_ntohs(flow->uli.ports.sport);
		t.dport = bpf_ntohs(flow->uli.ports.dport);
	}
	e->pkt.tuple = t;
	e->table = table;
	e->err = err;
	e->in_ifindex = flow->__fl_common.flowic_iif;
	e->out_ifindex = flow->__fl_common.flowic_oif;
	if (!err && nh) {
		fill_dev(e, BPF_CORE_READ(nh, nhc_dev));
		set_gateway(e, nh);
	}
	event_send(e);
	return 0;
}

SEC("tp_btf/fib6_table_lookup")
int BPF_PROG(fib6_table_lookup, struct net *net, struct fib6_result *result,
	     struct fib6_table *table, struct flowi6 *flow)
{
	struct fib6_nh *nh = BPF_CORE_READ(result, nh);
	bool failed = result->fib6_flags & RTF_REJECT;
	struct tuple t = {};
	struct event *e;

	if (failed && table->tb6_id != RT_TABLE_MAIN)
		return 0;
	bpf_probe_read_kernel(t.saddr, 16, &flow->saddr);
	bpf_probe_read_kernel(t.daddr, 16, &flow->daddr);
	if (!route_ours(&t, failed))
		return 0;
	e = event_new(HOOK_ROUTE, EVENT_WHOLE);
	if (!e)
		return 0;
	t.proto = flow->__fl_common.flowic_proto;
	e->pkt.tuple = t;
	e->table = table->tb6_id;
	e->err = failed ? -101 : 0; /* ENETUNREACH */
	if (!failed && nh) {
		fill_dev(e, BPF_CORE_READ(nh, nh_common.nhc_dev));
		set_gateway(e, &nh->nh_common);
	}
	e->netns = net_inum(net);
	event_send(e);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
