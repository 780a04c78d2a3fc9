/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The record that a hook sends to user space, and its vocabulary. internal/wire decodes it; a test
 * compares both layouts through the BTF of the compiled object.
 */
#ifndef PATHTRACE_EVENT_H
#define PATHTRACE_EVENT_H

#include "vmlinux.h"

/* The order is part of the record: internal/wire names the same values. */
enum hook {
	HOOK_UNKNOWN,
	HOOK_DEV_QUEUE,
	HOOK_DEV_XMIT,
	HOOK_DEV_RECEIVE,
	HOOK_DROP,
	HOOK_NF_ENTER,
	HOOK_NF_LEAVE,
	HOOK_TCP_STATE,
	HOOK_TCP_RESET,
	HOOK_ICMP_SEND,
	HOOK_TCP_RETRANSMIT,
	HOOK_ROUTE,
	HOOK_SOCKET_READ,
	HOOK_SOCKET_READY,
	NR_HOOKS,
};

/* Slots of the map `lost`: one per hook, then the tables that can be full. */
enum lost_slot {
	LOST_FLOW_TABLE = NR_HOOKS, /* a translated address could not be added to `flows` */
	NR_LOST,
};

enum event_flags {
	EV_ICMP_ERROR = 1 << 0,
	EV_ENCAPSULATED = 1 << 1,
	EV_FRAGMENT = 1 << 2,
	EV_TRUNCATED = 1 << 3,
	EV_TRACKED = 1 << 4,
	EV_BRIDGE_NF = 1 << 5,
	EV_VLAN = 1 << 6,
	EV_GSO = 1 << 7,
	EV_CLONED = 1 << 8,
	EV_IN_HOOK = 1 << 9, /* drop: inside the hook nf_hook */
	EV_IPVS = 1 << 10, /* hook: IPVS has sent the packet to another address */
	EV_ENCRYPTS = 1 << 11, /* hook: the packet's route leads through IPsec; reason is the SPI */
	EV_DECRYPTED = 1 << 12, /* hook: IPsec decrypted it in this host; reason is the SPI */
};

/* The ends of a packet. IPv4 addresses are IPv4-mapped (RFC 4291, 2.5.5.2), ports in host order. */
struct tuple {
	__u32 saddr[4]; /* network order */
	__u32 daddr[4];
	__u16 sport; /* ICMP echo: the identifier on the asker's side, 0 on the other */
	__u16 dport;
	__u8 proto;
	__u8 pad[3];
} __attribute__((aligned(8))); /* so that it is cleared and copied in double words */

/* What the parser finds in a packet's headers. */
struct packet {
	struct tuple tuple;
	struct tuple outer; /* encapsulating header, or the ends of an ICMP error */
	__u32 vni;
	__u32 flags; /* enum event_flags */
	__u32 length; /* bytes from the (inner) IP header on */
	__u32 seq;
	__u32 ack;
	__u32 mtu;
	__u16 ip_id;
	__u16 payload;
	__u8 tcp_flags;
	__u8 ttl;
	__u8 icmp_type;
	__u8 icmp_code;
};

/*
 * A record ends where its hook has nothing more to say: what only some hooks know comes last, and
 * bytes that are not sent need neither clearing nor a place in the buffer.
 */
struct event {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u64 skb;
	__u64 head;
	__u64 location; /* drop: return address; netfilter: the continuation, state->okfn */
	__u64 sock;
	struct packet pkt;
	char dev[16];
	__u32 netns;
	__u32 ifindex;
	__u32 in_ifindex;
	__u32 out_ifindex;
	__u32 reason; /* drop: enum skb_drop_reason; hook: see enum event_flags */
	__u32 mark;
	__u16 cpu;
	__u8 hook; /* enum hook */
	__u8 nf_hook;
	__u8 old_state;
	__u8 new_state;
	__u8 pkt_type;
	__u8 ct_info;
	/* EVENT_PLAIN ends here. */
	__u64 ct;
	struct tuple ct_orig;
	struct tuple ct_reply;
	__u32 ct_status;
	__u32 ct_pad;
	/* EVENT_TRACKED ends here. */
	__u32 gateway[4]; /* route look-up: next hop, as in struct tuple */
	__u32 table; /* route look-up: 254 main, 255 local */
	__s32 err;
};

/*
 * What follows a whole event whose hook has the bit HOOK_CAPTURED: the packet's first bytes, from its
 * link-layer header on if it has one. Only sent if settings.snaplen asks for it.
 */
struct capture {
	__u32 length; /* of the whole packet, from the first of the bytes on */
	__u16 captured; /* how many bytes follow */
	__u16 link; /* how many of them are the link-layer header: 0, or Ethernet's with its tags */
	__u16 vlan_tci; /* the tag beside the packet; 0: none */
	__u16 vlan_proto; /* its EtherType, host order */
	__u32 pad;
};

#define HOOK_CAPTURED 0x80

#define EVENT_PLAIN __builtin_offsetof(struct event, ct)
#define EVENT_TRACKED __builtin_offsetof(struct event, gateway)
#define EVENT_WHOLE sizeof(struct event)

_Static_assert(sizeof(struct tuple) == 40, "struct tuple has padding");
_Static_assert(sizeof(struct packet) == 112, "struct packet has padding");
_Static_assert(sizeof(struct event) == 320, "struct event has padding");
_Static_assert(sizeof(struct capture) == 16, "struct capture has padding");
_Static_assert(EVENT_PLAIN == 200 && EVENT_TRACKED == 296, "internal/wire knows these sizes");

#endif
