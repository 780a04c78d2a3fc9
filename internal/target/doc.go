// Package target turns the names people write (a container, a Compose service, an alias, a
// namespace, an address, `host`) into the addresses, ports and namespaces that a trace needs, and
// chooses the address a probe would use.
//
// It only computes: what exists is asked of Docker and Topology, host names of a Resolver.
package target
