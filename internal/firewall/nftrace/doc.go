// Package nftrace asks nf_tables to report every rule that the packets of a flow pass, in one network
// namespace: a table of its own, which the kernel removes with the socket that made it, sets the
// packets' trace flag, and the kernel's trace messages are read.
//
// It is the one thing pathtrace does that changes a firewall, and only on request. Rules of
// iptables-legacy are not reported: nf_tables does not walk them.
package nftrace
