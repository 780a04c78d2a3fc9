package xt

import (
	"fmt"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

func metaMatch(name string) matchFunc {
	switch name {
	case "mark":
		return markMatch
	case "comment":
		return commentMatch
	case "physdev":
		return physdevMatch
	case "pkttype":
		return pkttypeMatch
	case "owner":
		return ownerMatch
	case "socket":
		return socketMatch
	case "cgroup":
		return cgroupMatch
	case "cpu":
		return cpuMatch
	case "devgroup":
		return devgroupMatch
	case "realm":
		return realmMatch
	case "rpfilter":
		return rpfilterMatch
	case "ipvs":
		return ipvsMatch
	}
	return nil
}

// markMatch decodes struct xt_mark_mtinfo1.
func markMatch(d *decoding) judge {
	if d.name == "mark" && d.rev != 1 {
		return nil
	}
	mark, mask, inverted := d.u32(0), d.u32(4), d.u8(8) != 0
	d.option(inverted, "--mark", masked(mark, mask))
	return markJudge(mark, mask, inverted)
}

func markJudge(mark, mask uint32, inverted bool) judge {
	return func(p *firewall.Packet) firewall.Truth {
		if !p.HasMark {
			return firewall.Maybe
		}
		return xor(firewall.Of(p.Mark&mask == mark), inverted)
	}
}

// commentMatch decodes struct xt_comment_info.
func commentMatch(d *decoding) judge {
	if d.rev != 0 || len(d.b) == 0 {
		return nil
	}
	d.comment = printable(d.str(0, min(len(d.b), 256)))
	d.arg("--comment", quoted(d.comment))
	return yes
}

// InterfaceText writes an interface name under its mask as iptables does: "eth0", "veth+" for all that
// begin so.
func InterfaceText(name, mask []byte) string {
	for i := range min(len(name), len(mask)) {
		if mask[i] == 0 {
			return string(name[:i]) + "+"
		}
		if name[i] == 0 {
			return string(name[:i])
		}
	}
	return cString(name)
}

// InterfaceIn says whether the device name is want under mask, both of IFNAMSIZ bytes, as the
// kernel's ifname_compare does.
func InterfaceIn(name string, want, mask []byte) firewall.Truth {
	for i := range min(len(want), len(mask)) {
		var c byte
		if i < len(name) {
			c = name[i]
		}
		if (c^want[i])&mask[i] != 0 {
			return firewall.No
		}
	}
	return firewall.Yes
}

// Bits of xt_physdev_info's bitmask and invert, XT_PHYSDEV_OP_*.
const (
	physIn      = 0x01
	physOut     = 0x02
	physBridged = 0x04
	physIsIn    = 0x08
	physIsOut   = 0x10
)

// physdevInfo is struct xt_physdev_info.
type physdevInfo struct {
	in, inMask, out, outMask []byte
	invert, bitmask          uint8
}

func physdevMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	info := physdevInfo{d.bytes(0, 16), d.bytes(16, 16), d.bytes(32, 16), d.bytes(48, 16), d.u8(64), d.u8(65)}
	not := func(bit uint8) bool { return info.invert&bit != 0 }
	if info.bitmask&physIsIn != 0 {
		d.option(not(physIsIn), "--physdev-is-in")
	}
	if info.bitmask&physIn != 0 {
		d.option(not(physIn), "--physdev-in", InterfaceText(info.in, info.inMask))
	}
	if info.bitmask&physIsOut != 0 {
		d.option(not(physIsOut), "--physdev-is-out")
	}
	if info.bitmask&physOut != 0 {
		d.option(not(physOut), "--physdev-out", InterfaceText(info.out, info.outMask))
	}
	if info.bitmask&physBridged != 0 {
		d.option(not(physBridged), "--physdev-is-bridged")
	}
	return info.judge
}

// judge follows physdev_mt of net/netfilter/xt_physdev.c. Only bridged packets have an output port;
// one that was routed may still have the port it came in by, which is known only if PhysIn says it.
func (info physdevInfo) judge(p *firewall.Packet) firewall.Truth {
	isIn, isOut := firewall.Of(p.PhysIn != ""), firewall.Of(p.PhysOut != "")
	if p.PhysIn == "" && p.Hook != firewall.Output {
		isIn = firewall.Maybe
	}
	outHook := p.Hook == firewall.Forward || p.Hook == firewall.Postrouting
	if p.PhysOut == "" && p.BridgeNF && outHook {
		isOut = firewall.Maybe
	}
	t := firewall.Yes
	add := func(bit uint8, answer firewall.Truth) {
		if info.bitmask&bit != 0 {
			t = t.And(xor(answer, info.invert&bit != 0))
		}
	}
	add(physIsIn, isIn)
	add(physIsOut, isOut)
	add(physBridged, firewall.Of(p.BridgeNF && outHook))
	if p.PhysIn != "" {
		isIn = InterfaceIn(p.PhysIn, info.in, info.inMask)
	}
	if p.PhysOut != "" {
		isOut = InterfaceIn(p.PhysOut, info.out, info.outMask)
	}
	add(physIn, isIn)
	add(physOut, isOut)
	return t
}

// pkttypeMatch decodes struct xt_pkttype_info. The type is known of frames whose destination is.
func pkttypeMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	typ, inverted := d.u32(0), d.u32(4) != 0
	names := [...]string{"unicast", "broadcast", "multicast"}
	if int64(typ) >= int64(len(names)) {
		return nil
	}
	d.option(inverted, "--pkt-type", names[typ])
	return func(p *firewall.Packet) firewall.Truth {
		return xor(pktType(p, typ), inverted)
	}
}

// pktType says whether a packet is PACKET_HOST, PACKET_BROADCAST or PACKET_MULTICAST.
func pktType(p *firewall.Packet, typ uint32) firewall.Truth {
	switch {
	case len(p.DstMAC) != 6 || p.Hook == firewall.Output || p.Hook == firewall.Postrouting:
		return firewall.Maybe
	case p.DstMAC[0]&1 == 0:
		return firewall.Of(typ == 0).And(firewall.Maybe) // host or, on a promiscuous device, another's
	}
	broadcast := true
	for _, b := range p.DstMAC {
		broadcast = broadcast && b == 0xff
	}
	if broadcast {
		return firewall.Of(typ == 1)
	}
	return firewall.Of(typ == 2)
}

// ownerMatch decodes struct xt_owner_match_info. Whose socket sent the packet is not known.
func ownerMatch(d *decoding) judge {
	if d.rev != 1 {
		return nil
	}
	match, invert := d.u8(16), d.u8(17)
	between := func(lo, hi uint32) string {
		if lo == hi {
			return decimal(lo)
		}
		return decimal(lo) + "-" + decimal(hi)
	}
	if match&1 != 0 {
		d.option(invert&1 != 0, "--uid-owner", between(d.u32(0), d.u32(4)))
	}
	if match&2 != 0 {
		d.option(invert&2 != 0, "--gid-owner", between(d.u32(8), d.u32(12)))
	}
	if match&8 != 0 {
		d.arg("--suppl-groups")
	}
	if match&4 != 0 {
		d.option(invert&4 != 0, "--socket-exists")
	}
	return func(p *firewall.Packet) firewall.Truth {
		// Forwarded packets have no owner.
		if p.Hook == firewall.Forward || p.Hook == firewall.Postrouting && p.In != "" {
			return firewall.Of(match^invert == 0)
		}
		return firewall.Maybe
	}
}

// socketMatch decodes struct xt_socket_mtinfo1 to 3.
func socketMatch(d *decoding) judge {
	if d.rev > 3 {
		return nil
	}
	if d.rev > 0 {
		f := d.u8(0)
		d.flag(f&1 != 0, "--transparent")
		d.flag(f&2 != 0, "--nowildcard")
		d.flag(f&4 != 0, "--restore-skmark")
	}
	return maybe
}

// cgroupMatch decodes struct xt_cgroup_info_v0, v1 and v2.
func cgroupMatch(d *decoding) judge {
	switch d.rev {
	case 0:
		d.option(d.u32(4) != 0, "--cgroup", decimal(d.u32(0)))
		return maybe
	case 1, 2:
		pathLen, classID := 4096, 4100
		if d.rev == 2 {
			pathLen, classID = 512, 4
		}
		if d.u8(0) != 0 {
			d.option(d.u8(2) != 0, "--path", printable(d.str(4, pathLen)))
		}
		if d.u8(1) != 0 {
			d.option(d.u8(3) != 0, "--cgroup", decimal(d.u32(classID)))
		}
		return maybe
	}
	return nil
}

// cpuMatch decodes struct xt_cpu_info.
func cpuMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	d.option(d.u32(4) != 0, "--cpu", decimal(d.u32(0)))
	return maybe
}

// devgroupMatch decodes struct xt_devgroup_info.
func devgroupMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	flags := d.u32(0)
	if flags&1 != 0 {
		d.option(flags&2 != 0, "--src-group", masked(d.u32(4), d.u32(8)))
	}
	if flags&4 != 0 {
		d.option(flags&8 != 0, "--dst-group", masked(d.u32(12), d.u32(16)))
	}
	return maybe
}

// realmMatch decodes struct xt_realm_info.
func realmMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	d.option(d.u8(8) != 0, "--realm", masked(d.u32(0), d.u32(4)))
	return maybe
}

// rpfilterMatch decodes struct xt_rpfilter_info.
func rpfilterMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	f := d.u8(0)
	d.flag(f&1 != 0, "--loose")
	d.flag(f&2 != 0, "--validmark")
	d.flag(f&4 != 0, "--accept-local")
	d.flag(f&8 != 0, "--invert")
	return maybe
}

// Bits of xt_ipvs_mtinfo, XT_IPVS_*.
const (
	ipvsProperty = 1 << iota
	ipvsProto
	ipvsVAddr
	ipvsVPort
	ipvsDir
	ipvsMethod
	ipvsVPortCtl
)

// ipvsMatch decodes struct xt_ipvs_mtinfo.
func ipvsMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	invert, bits := d.u8(38), d.u8(39)
	not := func(bit uint8) bool { return invert&bit != 0 }
	if bits == ipvsProperty {
		d.option(not(ipvsProperty), "--ipvs")
	}
	if bits&ipvsProto != 0 {
		d.option(not(ipvsProto), "--vproto", decimal(d.u8(34)))
	}
	if bits&ipvsVAddr != 0 {
		d.option(not(ipvsVAddr), "--vaddr", d.addr(0).String()+maskText(d.addr(16)))
	}
	if bits&ipvsVPort != 0 {
		d.option(not(ipvsVPort), "--vport", decimal(d.be16(32)))
	}
	if bits&ipvsDir != 0 {
		if not(ipvsDir) {
			d.arg("--vdir", "REPLY")
		} else {
			d.arg("--vdir", "ORIGINAL")
		}
	}
	if bits&ipvsMethod != 0 {
		method, ok := map[uint8]string{0: "GATE", 1: "IPIP", 2: "MASQ"}[d.u8(35)]
		if !ok {
			method = fmt.Sprintf("%d", d.u8(35))
		}
		d.option(not(ipvsMethod), "--vmethod", method)
	}
	if bits&ipvsVPortCtl != 0 {
		d.option(not(ipvsVPortCtl), "--vportctl", decimal(d.be16(36)))
	}
	return maybe
}
