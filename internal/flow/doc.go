// Package flow joins events into packets and packets into flows.
//
// A Tracker takes the observations of the kernel hooks (wire.Event) and gives out one path.Path per
// flow: the request and the reply, packet by packet, hop by hop. It does no I/O and reads no clock;
// time is that of the events and of the caller.
//
// # How packets are recognised
//
// A packet is known by the address of its sk_buff as long as everything else fits: the fingerprint
// (protocol, IP identification, TCP sequence numbers, flags and payload length), a hop limit that
// does not rise, a short gap in time, and a place (hook, namespace, devices) at which it was not seen
// yet. Addresses are reused within microseconds, so each of these matters. Where the address changed
// (a clone, a copy), the fingerprint finds the packet among the recent ones of the same flow and
// direction. Each sk_buff of a packet is a branch of it with its own state.
//
// What is sent again is another packet, however alike: a SYN-ACK and its repetition, all that
// sockets without a peer send and all of IPv6 have no identification, and TCP sends clones that share
// their data. Once it was seen at the first place of its way, its sk_buff tells it from the one before.
// Two of them that are copied on their way, between the same two devices at once, cannot be told
// apart: of segments the later one is taken to come out first, as TCP sends again what seems to be
// lost, of others the earlier one.
//
// # What the hops say
//
// Device hooks give qdisc/queue, device/transmit and device/receive. Netfilter hooks give
// netfilter/HOOK enter and leave; a leave with another address is dnat or snat in place of leave. A
// drop inside a hook that was entered and not left carries the stage and devices of that hook.
//
// Tunnels add vxlan/encapsulate before the first observation inside the tunnel and
// vxlan/decapsulate before the first one after it; fragmentation adds fragment/fragment.
//
// A socket that takes a packet gives deliver, at stage tcp, udp or icmp.
//
// A route look-up gives stage route, action enter, with Gateway and the device, or Error if it
// failed. It is a hop of the packet that was being handled on that processor. If the look-up is for
// the way back (its destination is the packet's source), Hop.Direction is the opposite of the
// packet's: a request packet with a hop {Stage: route, Direction: reply, Error: "no route", Src:
// TARGET, Dst: CLIENT, NetNS: TARGET's} is a target that cannot route its answer, of which no
// packet exists. Look-ups that say nothing new (in the local table, repeated, successful ones of
// the way back) are not kept.
//
// A firewall's answer is reject at the stage of the open hook, with ICMP set unless it is an RST; the
// drop of the packet follows. An RST by the stack itself is reset at stage tcp.
//
// Noise is set on drops every healthy flow has, Copy on clones that are not on the packet's way.
// Both are settled when the flow is finished; a hop reported live may get them later. Drops as
// OTHERHOST are always both, also where every port of a bridge got a frame for a MAC address that
// nobody has: then the packet's way without copies ends at the bridge.
//
// # Limits
//
// Flows, packets per flow and hops per packet are bounded (Config); what is beyond is counted in
// Stats, in Path.OmittedPackets and in Packet.OmittedHops. Of a long flow the packets that open and
// close it, every dropped one, and the first few others of each direction are kept.
package flow
