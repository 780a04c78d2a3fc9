/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* All that differs between kernels, behind one accessor each. */
#ifndef PATHTRACE_COMPAT_H
#define PATHTRACE_COMPAT_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/*
 * Programs whose arguments the verifier knows (tp_btf, fentry, netfilter) read kernel memory with
 * plain loads. A kprobe must call a helper for each; such a file defines PROBE_READ before its
 * includes.
 */
#ifdef PROBE_READ
#define KREAD(p, field) BPF_CORE_READ(p, field)
#else
#define KREAD(p, field) ((p)->field)
#endif

/*
 * bpf_rdonly_cast (6.2) makes a kernel pointer of any address, so that memory without a type can be
 * read with plain loads (a fault reads 0) instead of a helper call. Packet headers are read as words
 * through struct in6_addr, the plainest structure that every kernel's BTF has.
 */
extern void *bpf_rdonly_cast(const void *obj__ign, __u32 btf_id__k) __ksym __weak;

static __always_inline bool can_cast(void)
{
	return (void *)bpf_rdonly_cast != NULL;
}

static __always_inline struct in6_addr *as_words(const void *p)
{
	return bpf_rdonly_cast(p, bpf_core_type_id_kernel(struct in6_addr));
}

/*
 * Up to 48 bytes of a header: behind plain pointers where they can be had, else a copy. Only what is
 * asked for is loaded.
 */
struct header {
	const struct in6_addr *part[3];
	struct in6_addr copy[3];
};

static __always_inline bool open_header(struct header *h, const void *at, int parts)
{
	if (!can_cast())
		return bpf_probe_read_kernel(h->copy, parts * 16, at) == 0;
	for (int i = 0; i < parts; i++)
		h->part[i] = as_words(at + i * 16);
	return true;
}

static __always_inline __u8 byte_at(const struct header *h, int i)
{
	if (can_cast())
		return h->part[i / 16]->in6_u.u6_addr8[i % 16];
	return h->copy[i / 16].in6_u.u6_addr8[i % 16];
}

/* The i-th 32-bit word as it stands there (network order). */
static __always_inline __u32 word_at(const struct header *h, int i)
{
	if (can_cast())
		return h->part[i / 4]->in6_u.u6_addr32[i % 4];
	return h->copy[i / 4].in6_u.u6_addr32[i % 4];
}

/*
 * skb->dev shares its place with dev_scratch once a datagram is in a UDP queue: only an address in
 * the kernel's half is a device.
 */
static __always_inline struct net_device *skb_dev(const struct sk_buff *skb)
{
	struct net_device *dev = KREAD(skb, dev);

	return (long)dev < 0 ? dev : NULL;
}

static __always_inline __u32 net_inum(const struct net *net)
{
	return net ? KREAD(net, ns.inum) : 0;
}

static __always_inline __u32 dev_netns(const struct net_device *dev)
{
	return dev ? net_inum(KREAD(dev, nd_net.net)) : 0;
}

static __always_inline __u32 sock_netns(const struct sock *sk)
{
	return sk ? net_inum(KREAD(sk, __sk_common.skc_net.net)) : 0;
}

/* The namespace of the running task: only right in process context. */
static __always_inline __u32 task_netns(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
}

/* The low three bits at PKT_TYPE_OFFSET are skb->pkt_type (include/linux/skbuff.h). */
static __always_inline __u8 skb_pkt_type(const struct sk_buff *skb)
{
	__u8 bits = 0;

	if (bpf_core_field_exists(skb->__pkt_type_offset))
		bpf_probe_read_kernel(&bits, 1,
				      (const void *)skb +
					      bpf_core_field_offset(skb->__pkt_type_offset));
	return bits & 7;
}

/* SKB_EXT_BRIDGE_NF is extension 0 since it exists (4.20). */
static __always_inline bool skb_has_bridge_nf(const struct sk_buff *skb)
{
	return KREAD(skb, active_extensions) & 1;
}

static __always_inline __u16 skb_gso_size(const struct sk_buff *skb)
{
	struct skb_shared_info *info = (void *)(KREAD(skb, head) + KREAD(skb, end));

	return BPF_CORE_READ(info, gso_size);
}

#endif
