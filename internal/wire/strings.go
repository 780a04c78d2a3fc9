package wire

import "strconv"

// hookNames lists the names of the hooks in the text form of events.
func hookNames() [hookEnd]string {
	return [hookEnd]string{
		HookUnknown:     "unknown",
		DevQueue:        "dev_queue",
		DevXmit:         "dev_xmit",
		DevReceive:      "dev_receive",
		Drop:            "drop",
		NetfilterEnter:  "nf_enter",
		NetfilterLeave:  "nf_leave",
		TCPState:        "tcp_state",
		TCPReset:        "tcp_reset",
		ICMPSend:        "icmp_send",
		TCPRetransmit:   "tcp_retransmit",
		RouteLookup:     "route",
		SocketRead:      "socket_read",
		SocketDataReady: "socket_ready",
	}
}

// String returns the hook's name, such as "nf_enter"; "hook(N)" for a number that is not known.
func (h Hook) String() string {
	if h < hookEnd {
		return hookNames()[h]
	}
	return "hook(" + strconv.Itoa(int(h)) + ")"
}

// Point returns the place in the kernel, as `pathtrace hooks` lists it: "net_dev_queue". Route look-ups
// have one for each family, v6 tells which.
func (h Hook) Point(v6 bool) string {
	switch h {
	case DevQueue:
		return "net_dev_queue"
	case DevXmit:
		return "net_dev_start_xmit"
	case DevReceive:
		return "netif_receive_skb"
	case Drop:
		return "kfree_skb"
	case NetfilterEnter, NetfilterLeave:
		return "netfilter"
	case TCPState:
		return "inet_sock_set_state"
	case TCPReset:
		return "tcp_send_reset"
	case ICMPSend:
		return "icmp_send"
	case TCPRetransmit:
		return "tcp_retransmit_skb"
	case SocketRead:
		return "skb_copy_datagram_iovec"
	case SocketDataReady:
		return "sk_data_ready"
	case RouteLookup:
		if v6 {
			return "fib6_table_lookup"
		}
		return "fib_table_lookup"
	}
	return h.String()
}

// parseHook returns the hook of that name; ok is false if there is none.
func parseHook(name string) (h Hook, ok bool) {
	for i, n := range hookNames() {
		if n == name {
			return Hook(i), true
		}
	}
	return HookUnknown, false
}

// nfHookName returns the name of a netfilter hook number (include/uapi/linux/netfilter.h), such as
// "prerouting"; the number itself if it is not known.
func nfHookName(n uint8) string {
	switch n {
	case NFPrerouting:
		return "prerouting"
	case NFInput:
		return "input"
	case NFForward:
		return "forward"
	case NFOutput:
		return "output"
	case NFPostrouting:
		return "postrouting"
	}
	return strconv.Itoa(int(n))
}

// tcpFlagLetters are the flags from bit 0 on: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
const tcpFlagLetters = "FSRPAUEC"

// TCPFlagString returns the flags as letters, such as "S", "SA", "FA"; "" for none.
func TCPFlagString(flags uint8) string {
	switch flags { // nearly all packets, without making a string
	case SYN:
		return "S"
	case SYN | ACK:
		return "SA"
	case ACK:
		return "A"
	case PSH | ACK:
		return "PA"
	case FIN | ACK:
		return "FA"
	case RST | ACK:
		return "RA"
	}
	var buf [8]byte
	n := 0
	for i := range len(tcpFlagLetters) {
		if flags&(1<<i) != 0 {
			buf[n] = tcpFlagLetters[i]
			n++
		}
	}
	return string(buf[:n])
}

// eventFlagNames are the names of the Flag bits from bit 0 on, as the text form writes them.
func eventFlagNames() [13]string {
	return [13]string{"icmperror", "encap", "fragment", "truncated", "tracked", "bridgenf", "vlan", "gso", "cloned", "inhook", "ipvs", "encrypts", "decrypted"}
}

// IsKnown reports whether h is one of the hooks; a recording of a newer version may have others.
func (h Hook) IsKnown() bool { return h > HookUnknown && h < hookEnd }
