// Package firewall says what a host's firewall does with a packet, without touching it: the tables,
// chains and rules of one network namespace as plain values, the walk of a packet through them, whose
// rule it was, and which rules could have ended or translated the packet.
//
// The package is pure: it does no I/O. Its sub-packages read the rules: nft those of nf_tables (also
// what iptables-nft and ebtables-nft wrote there), legacy those of iptables-legacy; xt decodes the
// matches and targets of x_tables, which both of them carry. A rule is judged in three values: it
// matches, it does not, or that cannot be told from what is known of the packet (a rate limit, a set
// that changes, a match this program does not know). Nothing is guessed: what cannot be told is said.
package firewall
