/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The maps that all objects share (user space replaces those of the second and later objects by
 * those of the first), and the settings.
 */
#ifndef PATHTRACE_MAPS_H
#define PATHTRACE_MAPS_H

#include "event.h"
#include <bpf/bpf_helpers.h>

#define MARKS_SIZE 65536
#define MAX_FLOW_TUPLES 65536
#define MAX_ENDPOINTS 16384
#define MAX_FRAGMENTS 4096

struct settings {
	__u64 vxlan_ports; /* four ports of 16 bits in host order, 0 = unused */
	__u8 all_packets; /* else: TCP segments with SYN, FIN or RST, and whatever is dropped */
	__u8 exact; /* follow the tuples in `flows` only: route look-ups must name both ends */
	__u8 pages; /* copy also what lies in pages behind the linear part, where the kernel lets */
	__u8 pad;
	__u32 snaplen; /* bytes of each packet to copy into its record; 0: none */
	__u32 room; /* bytes of a record for them, a multiple of 8, CAPTURE_HEAD more than snaplen with pages */
	__u32 pad2;
};

const volatile struct settings config = {};

/* One end of a flow; port and proto 0 mark an address for route look-ups. */
struct endpoint {
	__u32 addr[4];
	__u16 port;
	__u8 proto;
	__u8 pad;
};

struct fragment_key {
	__u32 saddr[4];
	__u32 daddr[4];
	__u32 id;
	__u32 proto;
};

/*
 * The first double words of a plain TCP segment's headers, from the IP header on, without what a router
 * changes: the ends, the sequence number, the IP id. Of IPv4 the last two are 0.
 */
struct segment {
	__u64 words[6];
};

/* The last packet of ours that entered a netfilter hook on this processor. */
struct current {
	__u64 skb;
	__u64 head;
	__u32 seq;
	__u32 netns;
	__u16 ip_id;
	__u8 nf_hook;
	__u8 passing; /* only its segment is known: it has been taken for ours by the marks of its ends */
	__u8 pad[4];
	__u32 in_ifindex;
	__u32 out_ifindex;
	__u64 time; /* of leaving LOCAL_IN, 0 otherwise */
	struct packet pkt;
	struct segment segment;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
	__type(value, struct event);
} events SEC(".maps");

/*
 * Two bytes per hash of an end of a packet, both 0 if no packet from or to it is ours. They make the
 * miss, the common case, one array access: a global array is addressed directly. A set byte says in
 * which table an exact look-up is worth its time. Bytes, not bits, so that setting one needs no
 * atomic operation (5.12).
 */
struct mark {
	__u8 endpoint; /* it may be in `endpoints` */
	__u8 flow; /* it may be an end of a tuple in `flows` */
};

struct mark marks[MARKS_SIZE];

/* Set by the reader before it sleeps for long: the first record then wakes it. */
__u32 reader_sleeps;

/* Ends that make a packet ours whoever is at the other end. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENDPOINTS);
	__type(key, struct endpoint);
	__type(value, __u32);
} endpoints SEC(".maps");

/* Exact tuples that are ours: the probe's, and those that address translation produced. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_FLOW_TUPLES);
	__type(key, struct tuple);
	__type(value, __u32);
} flows SEC(".maps");

/* First fragment -> tuple, for the fragments after it, which carry no ports. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTS);
	__type(key, struct fragment_key);
	__type(value, struct tuple);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct current);
} current_packet SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NR_LOST);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline void count_lost(__u32 slot)
{
	__u64 *n = bpf_map_lookup_elem(&lost, &slot);

	if (n)
		*n += 1;
}

#endif
