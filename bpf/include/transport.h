/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Transport headers: ports, sequence numbers, ICMP, and fragments that have none. */
#ifndef PATHTRACE_TRANSPORT_H
#define PATHTRACE_TRANSPORT_H

#include "ip.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04

static __always_inline void set_tuple(struct tuple *t, const struct inet *ip)
{
	__builtin_memcpy(t->saddr, ip->saddr, 16);
	__builtin_memcpy(t->daddr, ip->daddr, 16);
	t->proto = ip->proto;
	t->sport = t->dport = 0;
}

static __always_inline bool is_echo(__u8 proto, __u8 type, bool *reply)
{
	if (proto == IPPROTO_ICMP) {
		*reply = type == 0;
		return type == 0 || type == 8;
	}
	*reply = type == 129;
	return type == 128 || type == 129;
}

/* ICMP errors quote the packet they are about (RFC 792, RFC 4443). */
static __always_inline bool is_icmp_error(__u8 proto, __u8 type)
{
	if (proto == IPPROTO_ICMP)
		return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

static __always_inline bool parse_ports(const struct cursor *c, const struct inet *ip,
					struct packet *p)
{
	HEADER(h, 4);

	if (!pull(c, ip->l4, h, 4))
		return false;
	p->tuple.sport = h[0] << 8 | h[1];
	p->tuple.dport = h[2] << 8 | h[3];
	return true;
}

static __always_inline void set_payload(struct packet *p, __u32 all, __u32 headers)
{
	__u32 n = all > headers ? all - headers : 0;

	p->payload = n > 65535 ? 65535 : n;
}

static __always_inline bool parse_tcp(const struct cursor *c, const struct inet *ip,
				      struct packet *p)
{
	HEADER(h, 16);

	if (!pull(c, ip->l4, h, sizeof(h)))
		return false;
	p->tuple.sport = h[0] << 8 | h[1];
	p->tuple.dport = h[2] << 8 | h[3];
	p->seq = (__u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
	p->ack = (__u32)h[8] << 24 | h[9] << 16 | h[10] << 8 | h[11];
	p->tcp_flags = h[13];
	set_payload(p, p->length, ip->header + (h[12] >> 4) * 4);
	return true;
}

static __always_inline bool parse_icmp(const struct cursor *c, const struct inet *ip,
				       struct packet *p)
{
	bool reply = false;
	HEADER(h, 8);

	if (!pull(c, ip->l4, h, sizeof(h)))
		return false;
	p->icmp_type = h[0];
	p->icmp_code = h[1];
	if (is_icmp_error(ip->proto, h[0])) {
		p->flags |= EV_ICMP_ERROR;
		if (ip->proto == IPPROTO_ICMP)
			p->mtu = h[0] == 3 && h[1] == 4 ? h[6] << 8 | h[7] : 0;
		else if (h[0] == 2)
			p->mtu = (__u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
		return true;
	}
	if (!is_echo(ip->proto, h[0], &reply))
		return false;
	if (reply)
		p->tuple.dport = h[4] << 8 | h[5];
	else
		p->tuple.sport = h[4] << 8 | h[5];
	p->seq = h[6] << 8 | h[7];
	set_payload(p, p->length, ip->header + 8);
	return true;
}

/* Later fragments have no transport header: the first one told their tuple. */
CHECKED_ONCE int parse_fragment(const struct inet *ip, struct packet *p)
{
	struct fragment_key key = {};
	struct tuple *t;

	if (!ip || !p)
		return 0;
	p->ttl = ip->ttl;
	p->ip_id = ip->id;
	p->flags |= EV_FRAGMENT;
	__builtin_memcpy(key.saddr, ip->saddr, 16);
	__builtin_memcpy(key.daddr, ip->daddr, 16);
	key.id = ip->id;
	key.proto = ip->proto;
	t = bpf_map_lookup_elem(&fragments, &key);
	if (!t)
		return 0;
	p->tuple = *t;
	return 1;
}

CHECKED_ONCE int remember_fragment(const struct inet *ip, const struct packet *p)
{
	struct fragment_key key = {};
	struct tuple value;

	if (!ip || !p)
		return 0;
	value = p->tuple;
	__builtin_memcpy(key.saddr, ip->saddr, 16);
	__builtin_memcpy(key.daddr, ip->daddr, 16);
	key.id = ip->id;
	key.proto = ip->proto;
	return bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}

/* Transport header of a packet whose IP header is known: fills tuple, sequence, flags. */
CHECKED_ONCE int parse_transport(const struct cursor *c, const struct inet *ip, struct packet *p)
{
	if (!c || !ip || !p)
		return 0;
	set_tuple(&p->tuple, ip);
	p->ttl = ip->ttl;
	p->ip_id = ip->id;
	if (ip->fragment)
		p->flags |= EV_FRAGMENT;
	switch (ip->proto) {
	case IPPROTO_TCP:
		if (parse_tcp(c, ip, p))
			return 1;
		/* A quoted packet may end after eight bytes. */
		p->flags |= EV_TRUNCATED;
		return parse_ports(c, ip, p);
	case IPPROTO_UDP:
		set_payload(p, p->length, ip->header + 8);
		return parse_ports(c, ip, p);
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return parse_icmp(c, ip, p);
	}
	return 0;
}

/* What follows an IP header: a later fragment or a transport header. */
static __always_inline int parse_payload(const struct cursor *c, const struct inet *ip,
					 struct packet *p)
{
	return ip->fragment == 2 ? parse_fragment(ip, p) : parse_transport(c, ip, p);
}

#endif
