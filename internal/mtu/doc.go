// Package mtu says what the links of a path declare to carry, which sizes are to be probed to prove it,
// and what the probes' ends mean. It does no I/O.
package mtu
