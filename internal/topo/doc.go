// Package topo knows the network namespaces of this kernel and what is in them: links and their
// peers, addresses, routes, neighbours, forwarding entries, listening sockets, counters, sysctls.
//
// Only the identities of namespaces are read at start. What is inside one is read when it is first
// asked for, kept, and updated by the kernel's notifications, so that starting costs the same with
// two containers and with two hundred. Beside internal/lab it is the only package that uses
// vishvananda/netlink.
//
// A namespace is known by its inode number, as eBPF programs see it (struct ns_common.inum). Nothing
// here writes to a namespace, and nothing keeps one alive: the notification socket of a namespace,
// the one thing that would, is closed as soon as nothing else refers to it.
package topo
