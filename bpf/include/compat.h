/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* All that differs between kernels, behind one accessor each. */
#ifndef PATHTRACE_COMPAT_H
#define PATHTRACE_COMPAT_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

/*
 * bpf_rdonly_cast (6.2) makes a kernel pointer of any address, so that memory without a type can be
 * read with plain loads (a fault reads 0) instead of a helper call.
 */
extern void *bpf_rdonly_cast(const void *obj__ign, __u32 btf_id__k) __ksym __weak;

static __always_inline bool can_cast(void)
{
	return (void *)bpf_rdonly_cast != NULL;
}

/* The double word at an address, behind the plainest structure that every kernel's BTF has. */
static __always_inline __u64 word_at(const void *at)
{
	const struct timespec64 *t;
	__u64 word = 0;

	if (!can_cast()) {
		bpf_probe_read_kernel(&word, sizeof(word), at);
		return word;
	}
	t = bpf_rdonly_cast(at, bpf_core_type_id_kernel(struct timespec64));
	return t->tv_sec;
}

/* An address taken for that of a structure that begins with seven double words, and that every kernel's BTF has. */
static __always_inline const struct sysinfo *cast_words(const void *at)
{
	return bpf_rdonly_cast(at, bpf_core_type_id_kernel(struct sysinfo));
}

/* The double word number i, 0 to 6, a constant. */
static __always_inline __u64 cast_word(const struct sysinfo *words, const int i)
{
	switch (i) {
	case 0:
		return words->uptime;
	case 1:
		return words->loads[0];
	case 2:
		return words->loads[1];
	case 3:
		return words->loads[2];
	case 4:
		return words->totalram;
	case 5:
		return words->freeram;
	default:
		return words->sharedram;
	}
}

/* Copies n double words, a constant, of memory without a type. False if it is not there. */
static __always_inline bool read_words(__u64 *to, const void *from, const int n)
{
	const struct sysinfo *words;

	if (!can_cast())
		return bpf_probe_read_kernel(to, n * 8, from) == 0;
	words = cast_words(from);
	for (int i = 0; i < n; i++) {
		if (i && i % 7 == 0)
			words = cast_words(from + i * 8);
		to[i] = cast_word(words, i % 7);
	}
	return true;
}

/*
 * A field read without the verifier knowing it, 0 behind a null pointer. For a field that is a
 * pointer it would search the kernel's whole BTF by name, one type after the other, to learn how far
 * it may be trusted (btf_nested_type_is_trusted, 6.2): that made loading three times slower. The
 * double word is cut to the field's size, which is right on little-endian machines only, as are the
 * objects.
 */
#define PEEK(p, field) ((typeof((p)->field))word_at(&(p)->field))

/*
 * skb->dev shares its place with dev_scratch once a datagram is in a UDP queue: only an address in
 * the kernel's half is a device.
 */
static __always_inline struct net_device *skb_dev(const struct sk_buff *skb)
{
	struct net_device *dev = PEEK(skb, dev);

	return (long)dev < 0 ? dev : NULL;
}

/* Where skb->data stands, from skb->head on; in double words: pointers are not subtracted in 32 bits. */
static __always_inline __u32 skb_data(const struct sk_buff *skb)
{
	__u64 at = (__u64)skb->data - (__u64)skb->head;

	barrier_var(at);
	return at;
}

static __always_inline __u32 net_inum(const struct net *net)
{
	return PEEK(net, ns.inum);
}

static __always_inline __u32 dev_netns(const struct net_device *dev)
{
	const struct net *net = PEEK(dev, nd_net.net);

	return net_inum(net);
}

static __always_inline __u32 sock_netns(const struct sock *sk)
{
	const struct net *net;

	if (!sk)
		return 0;
	net = PEEK(sk, __sk_common.skc_net.net);
	return net_inum(net);
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
	if (!bpf_core_field_exists(skb->__pkt_type_offset))
		return 0;
	return word_at((const void *)skb + bpf_core_field_offset(skb->__pkt_type_offset)) & 7;
}

/* Has IPVS translated the packet in this namespace? (ip_vs_nat_send_or_cont, ip_vs_xmit.c) */
static __always_inline bool skb_ipvs(const struct sk_buff *skb)
{
	if (!bpf_core_field_exists(skb->ipvs_property))
		return false;
	return BPF_CORE_READ_BITFIELD(skb, ipvs_property);
}

static __always_inline __u32 state_spi(const struct xfrm_state *x)
{
	return x ? bpf_ntohl(PEEK(x, id.spi)) : 0;
}

/* The SPI of the IPsec state by which a packet's route leads (struct dst_entry, net/dst.h); 0: none. */
static __always_inline __u32 encrypts(const struct sk_buff *skb)
{
	const struct dst_entry *dst = (void *)(skb->_skb_refdst & ~1UL);

	if (!dst || !bpf_core_field_exists(dst->xfrm))
		return 0;
	return state_spi(PEEK(dst, xfrm));
}

/* The SPI of the state that decrypted a packet last (skb_sec_path, net/xfrm.h); 0: none did. */
static __always_inline __u32 decrypted(const struct sk_buff *skb)
{
	const struct skb_ext *ext;
	const struct sec_path *sp;
	__u32 id, n;
	__u8 at;

	if (!bpf_core_enum_value_exists(enum skb_ext_id, SKB_EXT_SEC_PATH))
		return 0;
	id = bpf_core_enum_value(enum skb_ext_id, SKB_EXT_SEC_PATH);
	if (!(skb->active_extensions & 1 << id))
		return 0;
	ext = PEEK(skb, extensions);
	at = word_at((const void *)&ext->offset + id); /* in double words */
	sp = (const void *)ext + at * 8;
	n = PEEK(sp, len);
	return n ? state_spi((void *)word_at(&sp->xvec[0] + (n - 1))) : 0;
}

/* SKB_EXT_BRIDGE_NF is extension 0 since it exists (4.20). */
static __always_inline bool skb_has_bridge_nf(const struct sk_buff *skb)
{
	return skb->active_extensions & 1;
}

static __always_inline __u16 skb_gso_size(const struct sk_buff *skb)
{
	struct skb_shared_info *info = (void *)(skb->head + skb->end);

	return PEEK(info, gso_size);
}

#endif
