package nfnl

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// Family names the protocol family of a table (NFPROTO_* of linux/netfilter.h).
func Family(nfproto uint8) firewall.Family {
	switch nfproto {
	case unix.NFPROTO_IPV4:
		return firewall.FamilyIP
	case unix.NFPROTO_IPV6:
		return firewall.FamilyIP6
	case unix.NFPROTO_INET:
		return firewall.FamilyInet
	case unix.NFPROTO_BRIDGE:
		return firewall.FamilyBridge
	case unix.NFPROTO_ARP:
		return firewall.FamilyARP
	case unix.NFPROTO_NETDEV:
		return firewall.FamilyNetdev
	}
	return firewall.Family(fmt.Sprintf("family %d", nfproto))
}
