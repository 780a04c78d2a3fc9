package nft

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// addressMask writes an address with the length of its mask, or the mask if that has holes.
func addressMask(o *operand, b []byte) string {
	width := max(o.width, len(b))
	mask := o.mask
	if mask == nil {
		mask = bytes.Repeat([]byte{0xff}, len(b))
	}
	mask = slices.Concat(mask, make([]byte, max(width-len(mask), 0)))
	full := net.IP(slices.Concat(b, make([]byte, max(width-len(b), 0))))
	if n, ok := prefixLen(mask); ok {
		return fmt.Sprintf("%s/%d", full, n)
	}
	return fmt.Sprintf("%s/%s", full, net.IP(mask))
}

// wildcard writes a device's name; one that is only a start ends with a plus.
func wildcard(b []byte) string {
	if len(b) > 0 && len(b) < ifNameLen && b[len(b)-1] != 0 {
		return string(b) + "+"
	}
	return unix.ByteSliceToString(b)
}

// protocolName names a protocol as iptables does: by /etc/protocols.
func protocolName(b []byte) string {
	if len(b) == 0 {
		return "all"
	}
	if name := protocol(b[0]); name != "" {
		return name
	}
	return decimal(uint64(b[0]))
}

// markMask writes a mark in hexadecimal, with its mask if it has one.
func markMask(o *operand, b []byte) string {
	if o.mask == nil {
		return fmt.Sprintf("0x%x", number(b))
	}
	return fmt.Sprintf("0x%x/0x%x", number(b), number(o.mask))
}

// tcpFlags writes flags as the tcp match of iptables does.
func tcpFlags(b byte) string {
	if b == 0 {
		return "NONE"
	}
	var all []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if b&(1<<i) != 0 {
			all = append(all, name)
		}
	}
	return strings.Join(all, ",")
}

// limitText writes a rate limit as the limit match of iptables does.
func limitText(a *nfnl.Attrs) string {
	unit := map[uint64]string{1: "sec", 60: "min", 3600: "hour", 86400: "day"}[a.U64(unix.NFTA_LIMIT_UNIT)]
	text := fmt.Sprintf("-m limit --limit %d/%s", a.U64(unix.NFTA_LIMIT_RATE), unit)
	if burst := a.U32(unix.NFTA_LIMIT_BURST); burst != 5 {
		text += fmt.Sprintf(" --limit-burst %d", burst)
	}
	return text
}

// nflog writes the one target that iptables-nft writes as a log expression.
func nflog(a *nfnl.Attrs) string {
	text := "-j NFLOG"
	if prefix := a.Str(unix.NFTA_LOG_PREFIX); prefix != "" {
		text += " --nflog-prefix " + shellQuoted(prefix)
	}
	if n := a.U16(unix.NFTA_LOG_GROUP); n != 0 {
		text += fmt.Sprintf(" --nflog-group %d", n)
	}
	if n := a.U32(unix.NFTA_LOG_SNAPLEN); n != 0 {
		text += fmt.Sprintf(" --nflog-size %d", n)
	}
	if n := a.U16(unix.NFTA_LOG_QTHRESHOLD); n > 1 {
		text += fmt.Sprintf(" --nflog-threshold %d", n)
	}
	return text
}

// shellQuoted writes a string as xtables_save_string does: in quotes unless it is one plain word.
func shellQuoted(s string) string {
	plain := s != ""
	for _, r := range s {
		plain = plain && (r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
	}
	if plain {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(s) + `"`
}
