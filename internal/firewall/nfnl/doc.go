// Package nfnl asks the kernel's nfnetlink subsystems, nf_tables and ipset, for what they have: dumps and
// single objects, as netlink attributes. It never asks for a change.
package nfnl
