package nft

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The order of ebtables, whose matches and target come after as in iptables.
const (
	rankEther = iota
	rankMACSource
	rankMACDestination
	rankPortIn
	rankPortOut
	rankBridge
)

// frame writes a comparison as ebtables-save does, which has the "!" behind the option.
func (x *iptablesWriter) frame(i int, o *operand, e *cmpExpr) bool {
	not := ""
	if e.op == unix.NFT_CMP_NEQ {
		not = "! "
	}
	switch o.text {
	case "ether type", "meta protocol":
		x.say(i, rankEther, "-p "+not+etherName(bigEndian(e.data)))
		if e.op == unix.NFT_CMP_EQ {
			x.ctx.ether = uint16(bigEndian(e.data))
		}
	case "ether saddr":
		x.say(i, rankMACSource, "-s "+not+macMask(o, e.data))
	case "ether daddr":
		x.say(i, rankMACDestination, "-d "+not+macMask(o, e.data))
	case "iifname":
		x.say(i, rankPortIn, "-i "+not+wildcard(e.data))
	case "oifname":
		x.say(i, rankPortOut, "-o "+not+wildcard(e.data))
	case "meta ibrname":
		x.say(i, rankBridge, "--logical-in "+not+wildcard(e.data))
	case "meta obrname":
		x.say(i, rankBridge, "--logical-out "+not+wildcard(e.data))
	default:
		return false
	}
	return true
}

// etherName names a protocol as ebtables' /etc/ethertypes does.
func etherName(n uint64) string {
	switch n {
	case ethIP:
		return "IPv4"
	case ethIPv6:
		return "IPv6"
	case unix.ETH_P_ARP:
		return "ARP"
	case unix.ETH_P_RARP:
		return "RARP"
	case ethVLAN:
		return "802_1Q"
	case unix.ETH_P_LLDP:
		return "LLDP"
	}
	return fmt.Sprintf("0x%x", n)
}

// macMask writes a hardware address with its mask, or the name that ebtables has for both.
func macMask(o *operand, b []byte) string {
	mask := o.mask
	if mask == nil {
		mask = bytes.Repeat([]byte{0xff}, len(b))
	}
	pad := make([]byte, max(6-len(b), 0))
	addr, whole := net.HardwareAddr(slices.Concat(b, pad)).String(), net.HardwareAddr(slices.Concat(mask, pad)).String()
	switch addr + "/" + whole {
	case "01:00:00:00:00:00/01:00:00:00:00:00":
		return "Multicast"
	case "00:00:00:00:00:00/01:00:00:00:00:00":
		return "Unicast"
	case "ff:ff:ff:ff:ff:ff/ff:ff:ff:ff:ff:ff":
		return "Broadcast"
	}
	if whole == "ff:ff:ff:ff:ff:ff" {
		return addr
	}
	return addr + "/" + whole
}

// The order of arptables, which shows the target first.
const (
	rankARPTarget = iota - 1
	rankARPIn
	rankARPOut
	rankARPSource
	rankARPSourceMAC
	rankARPDestination
	rankARPDestinationMAC
	rankARPOpcode
)

// arp writes a comparison as arptables-save does.
func (x *iptablesWriter) arp(i int, o *operand, e *cmpExpr) bool {
	not := ""
	if e.op == unix.NFT_CMP_NEQ {
		not = "! "
	}
	switch o.text {
	case "arp htype", "arp hlen", "arp plen":
		return true // arptables writes Ethernet and IPv4 into every rule and shows them in none
	case "iifname":
		x.say(i, rankARPIn, not+"-i "+wildcard(e.data))
	case "oifname":
		x.say(i, rankARPOut, not+"-o "+wildcard(e.data))
	case "arp saddr ip":
		x.say(i, rankARPSource, not+"-s "+strings.TrimSuffix(addressMask(o, e.data), "/32"))
	case "arp daddr ip":
		x.say(i, rankARPDestination, not+"-d "+strings.TrimSuffix(addressMask(o, e.data), "/32"))
	case "arp saddr ether":
		x.say(i, rankARPSourceMAC, not+"--src-mac "+macMask(o, e.data))
	case "arp daddr ether":
		x.say(i, rankARPDestinationMAC, not+"--dst-mac "+macMask(o, e.data))
	case "arp operation":
		x.say(i, rankARPOpcode, not+"--opcode "+decimal(bigEndian(e.data)))
	default:
		return false
	}
	return true
}
