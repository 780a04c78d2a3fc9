// Package lab builds networks of namespaces for `pathtrace demo` and for tests: veth pairs, bridges,
// routes, firewall and NAT rules, servers. It speaks netlink and runs no other program.
//
// Namespaces are anonymous: they are held by a file descriptor alone, so they vanish with the process,
// however it ends. The package is, besides internal/topo, the one user of vishvananda/netlink.
package lab
