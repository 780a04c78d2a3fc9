package prober

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// queued is an entry of a socket's error queue.
type queued struct {
	result Result
	// quoted is what the ICMP error quotes of the packet, from the transport header on.
	quoted []byte
}

// sizeExtendedErr is the size of struct sock_extended_err (uapi linux/errqueue.h); the address of the
// error's sender follows it.
const sizeExtendedErr = 16

// readErrorQueue returns the first ICMP or local error of the queue; ok is false if there is none.
func readErrorQueue(fd int) (q queued, ok bool) {
	buf, oob := make([]byte, 2048), make([]byte, 512)
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return queued{}, false // empty
		}
		if r, ok := parseExtendedError(oob[:oobn]); ok {
			return queued{result: r, quoted: buf[:n]}, true
		}
	}
}

// parseExtendedError finds the error in control messages.
func parseExtendedError(oob []byte) (Result, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return Result{}, false
	}
	for _, m := range messages {
		v4 := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if (!v4 && !v6) || len(m.Data) < sizeExtendedErr {
			continue
		}
		errno := unix.Errno(binary.NativeEndian.Uint32(m.Data))
		origin, typ, code := m.Data[4], m.Data[5], m.Data[6]
		info := binary.NativeEndian.Uint32(m.Data[8:])
		switch origin {
		case unix.SO_EE_ORIGIN_ICMP, unix.SO_EE_ORIGIN_ICMP6:
			icmp := ICMP{V6: origin == unix.SO_EE_ORIGIN_ICMP6, Type: typ, Code: code,
				Origin: parseSockaddr(m.Data[sizeExtendedErr:])}
			if icmp.tooBig() {
				icmp.MTU = info
			}
			return Result{Kind: ICMPError, Errno: errno, ICMP: icmp}, true
		case unix.SO_EE_ORIGIN_LOCAL:
			return Result{Kind: Unreachable, Errno: errno}, true
		}
	}
	return Result{}, false
}

// tooBig tells ICMP type 3 code 4 (RFC 1191) and ICMPv6 type 2 (RFC 4443), whose info is an MTU.
func (i ICMP) tooBig() bool {
	if i.V6 {
		return i.Type == 2
	}
	return i.Type == 3 && i.Code == 4
}
