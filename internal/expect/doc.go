// Package expect says which firewall rules a Docker engine should have made and has not got: the rules
// follow from its networks, published ports, options, version and firewall backend.
//
// The package is pure: the caller reads Docker's state and the rules of the engine's network namespace
// (package firewall) and gets a list of what is missing. A rule is looked for by what it does, not by
// how it is written: for each expected rule there is a packet that it is made for, and it is present if
// some rule of its chain matches that packet and does the same with it. So iptables-nft,
// iptables-legacy and Docker's own nftables tables are judged alike, a rule that stands behind
// another one is not called missing, and what cannot be judged is not either.
//
// Sources of what is expected: libnetwork/drivers/bridge of moby 20.10, 26.1 and 28.5, and
// daemon/libnetwork/drivers/bridge/internal/{iptabler,nftabler} of moby 29.
package expect
