// Package nft reads the rules of nf_tables of the calling thread's network namespace: those of nft and
// those that iptables-nft, ip6tables-nft, ebtables-nft and arptables-nft wrote. It asks the kernel
// only, never changes anything, and never makes the kernel load a module.
//
// A rule is kept as the kernel has it: a list of expressions over registers (net/netfilter/nft_*.c).
// Judging evaluates them as the kernel does, bit by bit: what a packet's bits are not known for stays
// unknown in the registers, and a comparison that depends on it is Maybe. The same list is put back
// into the words of the tool that wrote it.
package nft
