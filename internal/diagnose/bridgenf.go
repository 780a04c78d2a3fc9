package diagnose

import "net/netip"

// bridgeNetfilter is the setting that shows bridged frames of an address's family to the firewall.
func bridgeNetfilter(addr netip.Addr) string {
	if addr.Is6() {
		return "net.bridge.bridge-nf-call-ip6tables"
	}
	return "net.bridge.bridge-nf-call-iptables"
}
