package topo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/inet_diag.h.
const (
	sizeofDiagReq = 56 // struct inet_diag_req_v2
	sizeofDiagMsg = 72 // struct inet_diag_msg
	diagV6Only    = 11 // INET_DIAG_SKV6ONLY
)

// diagRequest asks for the listening TCP sockets of one address family.
type diagRequest struct{ family uint8 }

// Len returns the size in bytes.
func (r diagRequest) Len() int { return sizeofDiagReq }

// Serialize returns a struct inet_diag_req_v2 that matches any address.
func (r diagRequest) Serialize() []byte {
	b := make([]byte, sizeofDiagReq)
	b[0], b[1] = r.family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], 1<<stateListen)
	return b
}

// diagListeners asks tcp_diag in the namespace the calling thread is in.
func diagListeners() ([]Listener, error) {
	var out []Listener
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.AddData(diagRequest{family})
		msgs, err := req.Execute(unix.NETLINK_SOCK_DIAG, 0)
		if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list sockets: %w", err)
		}
		for _, msg := range msgs {
			if l, ok := parseDiag(msg); ok {
				out = append(out, l)
			}
		}
	}
	return out, nil
}

// parseDiag decodes a struct inet_diag_msg and its attributes. On a listening socket idiag_rqueue is
// the length of the accept queue and idiag_wqueue its limit.
func parseDiag(msg []byte) (Listener, bool) {
	if len(msg) < sizeofDiagMsg || msg[1] != stateListen {
		return Listener{}, false
	}
	size := 4
	if msg[0] == unix.AF_INET6 {
		size = 16
	}
	const src, rqueue, wqueue, inode = 8, 56, 60, 68
	addr, _ := netip.AddrFromSlice(msg[src : src+size])
	v6only := attr(msg[sizeofDiagMsg:], diagV6Only)
	return Listener{
		Addr:    netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(msg[4:])),
		V6Only:  len(v6only) == 1 && v6only[0] != 0,
		Queue:   binary.NativeEndian.Uint32(msg[rqueue:]),
		Backlog: binary.NativeEndian.Uint32(msg[wqueue:]),
		Inode:   binary.NativeEndian.Uint32(msg[inode:]),
	}, true
}
