package topo

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// RouteMTU is what a namespace's routes say of the size of packets to one destination.
type RouteMTU struct {
	// Index is the device that they leave by, DeviceMTU what it declares, bytes.
	Index     uint32
	DeviceMTU uint32
	// MTU and AdvMSS are the metrics of the route, bytes; 0 if it has none.
	MTU, AdvMSS uint32
	// Locked is set if the kernel may not learn another MTU.
	Locked bool
	// Cached is set if MTU is an exception that was learned from an ICMP error; Expires is for how long.
	Cached  bool
	Expires time.Duration
}

// RouteMTU asks the namespace how it would reach dst from src, which may be invalid.
func (t *Topology) RouteMTU(netns uint32, dst, src netip.Addr) (RouteMTU, error) {
	var msgs [][]byte
	err := t.InNamespace(netns, func() (err error) {
		msgs, err = routeRequest(dst.Unmap(), src.Unmap()).Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
		return err
	})
	if err == nil && len(msgs) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return RouteMTU{}, fmt.Errorf("look up route to %s: %w", dst, err)
	}
	r := parseRouteMTU(msgs[0])
	if l, ok := t.Link(netns, r.Index); ok {
		r.DeviceMTU = l.MTU
	}
	return r, nil
}

// routeRequest is RTM_GETROUTE (rtnetlink(7)).
func routeRequest(dst, src netip.Addr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_REQUEST)
	msg := &nl.RtMsg{}
	msg.Family, msg.Dst_len = unix.AF_INET, uint8(dst.BitLen())
	if dst.Is6() {
		msg.Family = unix.AF_INET6
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, dst.AsSlice()))
	if src.IsValid() {
		msg.Src_len = uint8(src.BitLen())
		req.AddData(nl.NewRtAttr(unix.RTA_SRC, src.AsSlice()))
	}
	return req
}

// parseRouteMTU decodes a struct rtmsg with its attributes. The kernel puts an exception's MTU in the
// place of the route's own metric; what tells them apart is that exceptions expire.
func parseRouteMTU(msg []byte) RouteMTU {
	const (
		lock, mtu, advMSS = 1, 2, 8 // RTAX_*
		cacheExpires      = 8       // offset of rta_expires in struct rta_cacheinfo, clock ticks
		hz                = 100     // USER_HZ
	)
	if len(msg) < unix.SizeofRtMsg {
		return RouteMTU{}
	}
	attrs := msg[unix.SizeofRtMsg:]
	metrics := attr(attrs, unix.RTA_METRICS)
	r := RouteMTU{Index: number(attr(attrs, unix.RTA_OIF)), MTU: number(attr(metrics, mtu)), AdvMSS: number(attr(metrics, advMSS))}
	r.Locked = number(attr(metrics, lock))&(1<<mtu) != 0
	if cache := attr(attrs, unix.RTA_CACHEINFO); len(cache) >= cacheExpires+4 {
		ticks := int32(binary.NativeEndian.Uint32(cache[cacheExpires:]))
		r.Expires = time.Duration(ticks) * time.Second / hz
		r.Cached = ticks > 0 && r.MTU != 0
	}
	return r
}

// number is a 32-bit attribute, 0 if it is not there.
func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// Offload is what a device takes and gives in pieces larger than a packet. Zero values are not known.
type Offload struct {
	// GSOMaxSize, in bytes, and GSOMaxSegments bound what the kernel hands to the device in one piece.
	GSOMaxSize, GSOMaxSegments uint32
	// GROMaxSize bounds what received packets are merged to, bytes.
	GROMaxSize uint32
	// TSO, GSO and GRO tell whether segmentation in the device, before it, and merging are on; Known
	// whether that could be read.
	TSO, GSO, GRO, Known bool
}

// Offload reads the limits and settings of a device's offloads.
func (t *Topology) Offload(netns, ifindex uint32) (Offload, error) {
	l, ok := t.Link(netns, ifindex)
	if !ok {
		return Offload{}, fmt.Errorf("read offloads of device %d: %w", ifindex, unix.ENODEV)
	}
	var out Offload
	err := t.InNamespace(netns, func() error {
		req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_REQUEST)
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(ifindex)
		req.AddData(msg)
		msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
		if err == nil && len(msgs) > 0 && len(msgs[0]) > unix.SizeofIfInfomsg {
			attrs := msgs[0][unix.SizeofIfInfomsg:]
			out.GSOMaxSize, out.GSOMaxSegments = number(attr(attrs, unix.IFLA_GSO_MAX_SIZE)), number(attr(attrs, unix.IFLA_GSO_MAX_SEGS))
			out.GROMaxSize = number(attr(attrs, unix.IFLA_GRO_MAX_SIZE))
		}
		if err != nil {
			return err
		}
		return out.settings(l.Name)
	})
	if err != nil {
		return out, fmt.Errorf("read offloads of %s: %w", l.Name, err)
	}
	return out, nil
}

// settings asks ethtool in the namespace of the calling thread.
func (o *Offload) settings(device string) error {
	const getTSO, getGSO, getGRO = 0x1e, 0x23, 0x2b // ETHTOOL_G* of uapi linux/ethtool.h
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for command, on := range map[uint32]*bool{getTSO: &o.TSO, getGSO: &o.GSO, getGRO: &o.GRO} {
		if *on, err = ethtool(fd, device, command); err != nil {
			return err
		}
	}
	o.Known = true
	return nil
}

// SocketMSS is what TCP says of one end of a connection.
type SocketMSS struct {
	// MSS is what it sends in one segment, without options, and PathMTU what it takes for the path MTU; bytes.
	MSS, PathMTU uint32
	// Timestamps takes twelve bytes of each segment.
	Timestamps bool
}

// SocketMSS asks tcp_diag in a namespace for an established socket (sock_diag(7)).
func (t *Topology) SocketMSS(netns uint32, local, remote netip.AddrPort) (SocketMSS, error) {
	var msgs [][]byte
	err := t.InNamespace(netns, func() (err error) {
		req := nl.NewNetlinkRequest(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_REQUEST)
		req.AddData(socketRequest{local, remote})
		msgs, err = req.Execute(unix.NETLINK_SOCK_DIAG, 0)
		return err
	})
	if err != nil {
		return SocketMSS{}, fmt.Errorf("find socket %s of %s: %w", local, remote, err)
	}
	// Offsets in struct tcp_info of uapi linux/tcp.h.
	const info, options, sndMSS, pmtu, timestamps = 2, 5, 16, 60, 1
	for _, msg := range msgs {
		if len(msg) < sizeofDiagMsg {
			continue
		}
		if b := attr(msg[sizeofDiagMsg:], info); len(b) >= pmtu+4 {
			return SocketMSS{MSS: number(b[sndMSS:]), PathMTU: number(b[pmtu:]), Timestamps: b[options]&timestamps != 0}, nil
		}
	}
	return SocketMSS{}, fmt.Errorf("find socket %s of %s: %w", local, remote, unix.ENOENT)
}

// socketRequest asks for one TCP socket with its INET_DIAG_INFO.
type socketRequest struct{ local, remote netip.AddrPort }

// Len returns the size in bytes.
func (r socketRequest) Len() int { return sizeofDiagReq }

// Serialize returns a struct inet_diag_req_v2.
func (r socketRequest) Serialize() []byte {
	const info = 1 << (2 - 1) // INET_DIAG_INFO
	b := make([]byte, sizeofDiagReq)
	b[0], b[1], b[2] = unix.AF_INET, unix.IPPROTO_TCP, info
	if r.local.Addr().Is6() {
		b[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0))
	binary.BigEndian.PutUint16(b[8:], r.local.Port())
	binary.BigEndian.PutUint16(b[10:], r.remote.Port())
	copy(b[12:], r.local.Addr().AsSlice())
	copy(b[28:], r.remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(b[48:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}
