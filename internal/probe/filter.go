package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/pathtrace/pathtrace/internal/bpfobj"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// marksSize is MARKS_SIZE of bpf/include/maps.h, markBytes the size of its struct mark.
const (
	marksSize = 65536
	markBytes = 2
)

// tupleBytes is sizeof(struct tuple) of bpf/include/event.h.
const tupleBytes = 40

// sleepsOffset is where reader_sleeps stands, behind the marks.
const sleepsOffset = marksSize * markBytes

// The bytes of a mark.
const (
	endpointMark = iota
	flowMark
)

// marksMap is the section that holds the array.
const marksMap = ".bss"

// Endpoint is one end that makes a packet ours whoever is at the other end.
type Endpoint struct {
	Addr  netip.AddrPort // port 0 for ICMP echo
	Proto uint8          // IP protocol number
}

// Watch adds an endpoint to the filter: every packet from or to it is reported. It also reports
// failed route look-ups that concern its address.
func (s *Set) Watch(ep Endpoint) error {
	if err := s.put(s.maps["endpoints"], endpointKey(ep)); err != nil {
		return fmt.Errorf("watch %s: %w", ep.Addr, err)
	}
	if err := s.mark(ep, endpointMark); err != nil {
		return err
	}
	return s.WatchAddr(ep.Addr.Addr())
}

// Unwatch removes an endpoint. Its mark stays: others may share it, and it costs only time.
func (s *Set) Unwatch(ep Endpoint) error {
	return ignoreMissing(s.maps["endpoints"].Delete(endpointKey(ep)))
}

// WatchAddr adds an address to those whose route look-ups are reported.
func (s *Set) WatchAddr(addr netip.Addr) error {
	ep := Endpoint{Addr: netip.AddrPortFrom(addr, 0)}
	if err := s.put(s.maps["endpoints"], endpointKey(ep)); err != nil {
		return fmt.Errorf("watch %s: %w", addr, err)
	}
	return s.mark(ep, endpointMark)
}

// UnwatchAddr removes an address from those whose route look-ups are reported.
func (s *Set) UnwatchAddr(addr netip.Addr) error {
	return s.Unwatch(Endpoint{Addr: netip.AddrPortFrom(addr, 0)})
}

// Follow adds an exact tuple and its inverse to the filter.
func (s *Set) Follow(t wire.Tuple) error {
	for _, t := range []wire.Tuple{t, t.Inverse()} {
		if err := s.put(s.maps["flows"], keyBytes(t)); err != nil {
			return fmt.Errorf("follow %s → %s: %w", t.Src, t.Dst, err)
		}
		if err := s.mark(Endpoint{Addr: t.Dst, Proto: t.Proto}, flowMark); err != nil {
			return err
		}
	}
	return nil
}

// Unfollow removes a tuple and its inverse, when the flow is over, so that the table does not fill.
func (s *Set) Unfollow(t wire.Tuple) error {
	return errors.Join(
		ignoreMissing(s.maps["flows"].Delete(keyBytes(t))),
		ignoreMissing(s.maps["flows"].Delete(keyBytes(t.Inverse()))))
}

// keyBytes is tupleKey as it lies in memory, which else is found out by reflection each time.
func keyBytes(t wire.Tuple) []byte {
	key := tupleKey(t)
	b := make([]byte, 0, tupleBytes)
	for _, word := range key.Saddr {
		b = binary.NativeEndian.AppendUint32(b, word)
	}
	for _, word := range key.Daddr {
		b = binary.NativeEndian.AppendUint32(b, word)
	}
	b = binary.NativeEndian.AppendUint16(b, key.Sport)
	b = binary.NativeEndian.AppendUint16(b, key.Dport)
	b = append(b, key.Proto)
	return append(b, key.Pad[:]...)
}

func (s *Set) put(m *ebpf.Map, key any) error {
	err := m.Put(key, uint32(1))
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// mark sets the byte that lets packets from and to ep pass the first test.
func (s *Set) mark(ep Endpoint, which uint32) error {
	if _, err := s.marks.WriteAt([]byte{1}, int64(markOf(ep)*markBytes+which)); err != nil {
		return fmt.Errorf("mark %s: %w", ep.Addr, err)
	}
	return nil
}

// markOf is mark_of of bpf/include/filter.h.
func markOf(ep Endpoint) uint32 {
	a := ep.Addr.Addr().As16()
	var folded uint32
	for i := 0; i < len(a); i += 4 {
		folded ^= binary.NativeEndian.Uint32(a[i:])
	}
	h := folded ^ (uint32(ep.Addr.Port())<<16 | uint32(ep.Proto))
	return h * 0x9E3779B1 >> 16 % marksSize
}

func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

func endpointKey(ep Endpoint) bpfobj.DeviceEndpoint {
	return bpfobj.DeviceEndpoint{
		Addr: words(ep.Addr.Addr()), Port: ep.Addr.Port(), Proto: ep.Proto,
	}
}

func tupleKey(t wire.Tuple) bpfobj.DeviceTuple {
	return bpfobj.DeviceTuple{
		Saddr: words(t.Src.Addr()), Daddr: words(t.Dst.Addr()),
		Sport: t.Src.Port(), Dport: t.Dst.Port(), Proto: t.Proto,
	}
}
