package bpfobj_test

import (
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/pathtrace/pathtrace/internal/bpfobj"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// TestEventSize holds the generated Go type, the object's BTF and the decoder together.
func TestEventSize(t *testing.T) {
	if got := unsafe.Sizeof(bpfobj.DeviceEvent{}); got != wire.Size {
		t.Errorf("sizeof DeviceEvent = %d, want %d", got, wire.Size)
	}
	if got := unsafe.Offsetof(bpfobj.DeviceEvent{}.Ct); got != wire.SizePlain {
		t.Errorf("EVENT_PLAIN = %d, want %d", got, wire.SizePlain)
	}
	if got := unsafe.Offsetof(bpfobj.DeviceEvent{}.Gateway); got != wire.SizeTracked {
		t.Errorf("EVENT_TRACKED = %d, want %d", got, wire.SizeTracked)
	}
	spec, err := bpfobj.LoadDevice()
	if err != nil {
		t.Fatal(err)
	}
	var event *btf.Struct
	if err := spec.Types.TypeByName("event", &event); err != nil {
		t.Fatal(err)
	}
	if event.Size != wire.Size {
		t.Errorf("sizeof struct event = %d, want %d", event.Size, wire.Size)
	}
}

// TestEventLayout writes each field through the generated type and reads it through the decoder.
func TestEventLayout(t *testing.T) {
	raw := bpfobj.DeviceEvent{
		Time: 1, Skb: 2, Head: 3, Location: 4, Sock: 5, Ct: 6, CtStatus: 7, Netns: 8, Ifindex: 9,
		InIfindex: 10, OutIfindex: 11, Reason: 12, Mark: 13, Table: 14, Err: -15, Cpu: 16,
		Hook: uint8(wire.RouteLookup), NfHook: 17, OldState: 18, NewState: 19, PktType: 20, CtInfo: 5,
	}
	raw.Pkt.Vni, raw.Pkt.Flags, raw.Pkt.Length = 21, wire.FlagEncapsulated, 23
	raw.Pkt.Seq, raw.Pkt.Ack, raw.Pkt.Mtu, raw.Pkt.IpId, raw.Pkt.Payload = 24, 25, 26, 27, 28
	raw.Pkt.TcpFlags, raw.Pkt.Ttl, raw.Pkt.IcmpType, raw.Pkt.IcmpCode = 29, 30, 31, 32
	raw.Pkt.Tuple.Sport, raw.Pkt.Outer.Dport = 33, 34
	raw.CtOrig.Sport, raw.CtReply.Dport, raw.CtReply.Proto = 35, 36, 17
	raw.Gateway[3] = 0x01020304
	raw.Dev[0] = 'x'
	var e wire.Event
	if err := wire.Decode(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), wire.Size), &e); err != nil {
		t.Fatal(err)
	}
	got := []any{e.Time, e.Skb, e.Head, e.Location, e.Sock, e.CT, e.CTStatus, e.NetNS, e.Ifindex,
		e.InIfindex, e.OutIfindex, e.Reason, e.Mark, e.Table, e.Err, e.CPU, e.NFHook, e.OldState,
		e.NewState, e.PktType, e.CTInfo, e.VNI, e.Flags, e.Length, e.Seq, e.Ack, e.MTU, e.IPID,
		e.Payload, e.TCPFlags, e.TTL, e.ICMPType, e.ICMPCode, e.Tuple.Src.Port(), e.OuterDst.Port(),
		e.CTOrig.Src.Port(), e.CTReply.Dst.Port(), e.CTReply.Proto, e.Gateway.IsValid(), e.Dev}
	want := []any{uint64(1), uint64(2), uint64(3), uint64(4), uint64(5), uint64(6), uint32(7), uint32(8),
		uint32(9), uint32(10), uint32(11), uint32(12), uint32(13), uint32(14), int32(-15), uint16(16),
		uint8(17), uint8(18), uint8(19), uint8(20), uint8(5), uint32(21), uint32(wire.FlagEncapsulated),
		uint32(23), uint32(24), uint32(25), uint32(26), uint16(27), uint16(28), uint8(29), uint8(30),
		uint8(31), uint8(32), uint16(33), uint16(34), uint16(35), uint16(36), uint8(17), true, "x"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("field %d = %v, want %v", i, got[i], want[i])
		}
	}
}

// TestSharedMaps: the maps that the objects share must agree, or they could not be replaced.
func TestSharedMaps(t *testing.T) {
	first, err := bpfobj.LoadDevice()
	if err != nil {
		t.Fatal(err)
	}
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"drop": bpfobj.LoadDrop, "socket": bpfobj.LoadSocket, "ready": bpfobj.LoadReady,
		"icmp": bpfobj.LoadICMP, "route": bpfobj.LoadRoute, "netfilter": bpfobj.LoadNetfilter,
	} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for m, got := range spec.Maps {
			want := first.Maps[m]
			if want == nil || m == ".rodata" {
				continue
			}
			if got.KeySize != want.KeySize || got.ValueSize != want.ValueSize || got.MaxEntries != want.MaxEntries {
				t.Errorf("%s: map %s differs from the device object's", name, m)
			}
		}
	}
}
