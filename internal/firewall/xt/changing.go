package xt

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// changingTarget returns the decoders of targets after which the next rule is looked at: they log,
// mark or change the packet.
func changingTarget(name string) targetFunc {
	var f func(*decoding) bool
	switch name {
	case "LOG":
		f = logTarget
	case "NFLOG":
		f = nflogTarget
	case "MARK":
		f = markTarget
	case "CONNMARK":
		f = connmarkTarget
	case "CT":
		return ctVerdict
	case "NOTRACK":
		return func(*decoding) (firewall.Verdict, bool) { return firewall.Verdict{Untracks: true}, true }
	case "TRACE":
		f = plainTarget
	case "TCPMSS":
		f = tcpmssTarget
	case "CLASSIFY":
		f = classifyTarget
	case "DSCP":
		f = dscpTarget
	case "TOS":
		f = tosTarget
	case "TTL", "HL":
		f = ttlTarget
	case "ECN":
		f = ecnTarget
	case "CHECKSUM":
		f = checksumTarget
	case "SET":
		f = setTarget
	case "AUDIT":
		f = auditTarget
	case "TEE":
		f = teeTarget
	case "HMARK":
		f = hmarkTarget
	case "SECMARK":
		f = secmarkTarget
	case "CONNSECMARK":
		f = connsecmarkTarget
	case "TCPOPTSTRIP":
		f = tcpoptstripTarget
	case "IDLETIMER":
		f = idletimerTarget
	default:
		return nil
	}
	return func(d *decoding) (firewall.Verdict, bool) { return firewall.Verdict{}, f(d) }
}

// plainTarget is a target without options.
func plainTarget(*decoding) bool { return true }

// logTarget decodes struct xt_log_info.
func logTarget(d *decoding) bool {
	level, flags, prefix := d.u8(0), d.u8(1), d.str(2, 30)
	d.flag(prefix != "", "--log-prefix", quoted(prefix))
	d.flag(level != 4, "--log-level", decimal(level))
	for i, option := range [...]string{
		"--log-tcp-sequence", "--log-tcp-options", "--log-ip-options", "--log-uid", "", "--log-macdecode",
	} {
		d.flag(option != "" && flags&(1<<i) != 0, option)
	}
	return d.rev == 0
}

// nflogTarget decodes struct xt_nflog_info.
func nflogTarget(d *decoding) bool {
	length, group, threshold, flags := d.u32(0), d.u16(4), d.u16(6), d.u16(8)
	prefix := d.str(12, 64)
	d.flag(prefix != "", "--nflog-prefix", quoted(prefix))
	d.flag(group != 0, "--nflog-group", decimal(group))
	switch {
	case flags&1 != 0:
		d.arg("--nflog-size", decimal(length))
	case length != 0:
		d.arg("--nflog-range", decimal(length))
	}
	d.flag(threshold != 0, "--nflog-threshold", decimal(threshold))
	return d.rev == 0
}

// markTarget decodes struct xt_mark_tginfo2.
func markTarget(d *decoding) bool {
	d.argf("--set-xmark 0x%x/0x%x", d.u32(0), d.u32(4))
	return d.rev == 2
}

// connmarkTarget decodes struct xt_connmark_tginfo1 and xt_connmark_tginfo2.
func connmarkTarget(d *decoding) bool {
	ctmark, ctmask, nfmask := d.u32(0), d.u32(4), d.u32(8)
	mode := d.u8(12)
	if d.rev == 2 {
		mode = d.u8(14)
	}
	switch mode {
	case 0:
		d.argf("--set-xmark 0x%x/0x%x", ctmark, ctmask)
	case 1:
		d.argf("--save-mark --nfmask 0x%x --ctmask 0x%x", nfmask, ctmask)
	case 2:
		d.argf("--restore-mark --nfmask 0x%x --ctmask 0x%x", nfmask, ctmask)
	default:
		return false
	}
	if d.rev == 2 && d.u8(13) != 0 {
		if d.u8(12) == 0 {
			d.arg("--left-shift-mark", decimal(d.u8(13)))
		} else {
			d.arg("--right-shift-mark", decimal(d.u8(13)))
		}
	}
	return d.rev == 1 || d.rev == 2
}

// ctVerdict is ctTarget with what it does; it also serves NOTRACK (XT_CT_NOTRACK, XT_CT_NOTRACK_ALIAS).
func ctVerdict(d *decoding) (firewall.Verdict, bool) {
	flags := d.u16(0)
	return firewall.Verdict{Untracks: flags&1 != 0 || d.rev >= 1 && flags&2 != 0}, ctTarget(d)
}

// ctTarget decodes struct xt_ct_target_info and xt_ct_target_info_v1.
func ctTarget(d *decoding) bool {
	flags, zone := d.u16(0), d.u16(2)
	if d.rev > 2 {
		return false
	}
	if d.rev >= 1 && flags&2 != 0 {
		d.name = "NOTRACK"
		return true
	}
	d.flag(flags&1 != 0, "--notrack")
	if helper := d.str(12, 16); helper != "" {
		d.arg("--helper", quoted(helper))
	}
	if d.rev >= 1 {
		if timeout := d.str(28, 32); timeout != "" {
			d.arg("--timeout", quoted(timeout))
		}
	}
	if events := d.u32(4); events != 0 {
		d.arg("--ctevents", ctEvents(events, []string{
			"new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "natseqinfo",
			"secmark",
		}))
	}
	if events := d.u32(8); events != 0 {
		d.arg("--expevents", ctEvents(events, []string{"new"}))
	}
	option := "--zone"
	switch {
	case flags&4 != 0:
		option = "--zone-orig"
	case flags&8 != 0:
		option = "--zone-reply"
	}
	switch {
	case flags&16 != 0:
		d.arg(option, "mark")
	case zone != 0:
		d.arg(option, decimal(zone))
	}
	return true
}

func ctEvents(mask uint32, names []string) string {
	var list []string
	for i, name := range names {
		if mask&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return strings.Join(list, ",")
}

// tcpmssTarget decodes struct xt_tcpmss_info.
func tcpmssTarget(d *decoding) bool {
	if mss := d.u16(0); mss == 0xffff {
		d.arg("--clamp-mss-to-pmtu")
	} else {
		d.arg("--set-mss", decimal(mss))
	}
	return d.rev == 0
}

// classifyTarget decodes struct xt_classify_target_info.
func classifyTarget(d *decoding) bool {
	d.argf("--set-class %04x:%04x", d.u32(0)>>16, d.u32(0)&0xffff)
	return d.rev == 0
}

// dscpTarget decodes struct xt_DSCP_info.
func dscpTarget(d *decoding) bool {
	d.argf("--set-dscp 0x%02x", d.u8(0))
	return d.rev == 0
}

// tosTarget decodes struct xt_tos_target_info.
func tosTarget(d *decoding) bool {
	d.argf("--set-tos 0x%02x/0x%02x", d.u8(0), d.u8(1))
	return d.rev == 1
}

// ttlTarget decodes struct ipt_TTL_info and struct ip6t_HL_info, which are alike.
func ttlTarget(d *decoding) bool {
	mode, by := d.u8(0), d.u8(1)
	if d.rev != 0 || mode > 2 {
		return false
	}
	d.arg("--"+strings.ToLower(d.name)+[...]string{"-set", "-inc", "-dec"}[mode], decimal(by))
	return true
}

// ecnTarget decodes struct ipt_ECN_info.
func ecnTarget(d *decoding) bool {
	op, tcp := d.u8(0), d.u8(2)
	if op&0x30 == 0x30 && tcp == 0 {
		d.arg("--ecn-tcp-remove")
	} else {
		d.flag(op&0x10 != 0, "--ecn-tcp-ece", decimal(tcp&1))
		d.flag(op&0x20 != 0, "--ecn-tcp-cwr", decimal(tcp>>1&1))
	}
	d.flag(op&0x01 != 0, "--ecn-ip-ect", decimal(d.u8(1)))
	return d.rev == 0
}

// checksumTarget decodes struct xt_CHECKSUM_info.
func checksumTarget(d *decoding) bool {
	d.flag(d.u8(0)&1 != 0, "--checksum-fill")
	return d.rev == 0
}

// auditTarget decodes struct xt_audit_info.
func auditTarget(d *decoding) bool {
	typ := d.u8(0)
	if d.rev != 0 || typ > 2 {
		return false
	}
	d.arg("--type", [...]string{"accept", "drop", "reject"}[typ])
	return true
}

// teeTarget decodes struct xt_tee_tginfo.
func teeTarget(d *decoding) bool {
	d.arg("--gateway", d.addr(0).String())
	if dev := printable(d.str(16, 16)); dev != "" {
		d.arg("--oif", dev)
	}
	return d.rev == 1
}

// setTarget decodes struct xt_set_info_target_v1 to v3.
func setTarget(d *decoding) bool {
	if d.rev < 1 || d.rev > 3 {
		return false
	}
	add, del := readSetRef(d, 0), readSetRef(d, 4)
	if !add.isNone() {
		d.arg("--add-set", add.name(d), add.directions())
	}
	flags, timeout := uint32(0), uint32(0xffffffff)
	switch d.rev {
	case 2:
		flags, timeout = d.u32(8), d.u32(12)
	case 3:
		flags, timeout = d.u32(12), d.u32(16)
	}
	if !add.isNone() {
		d.flag(flags&1 != 0, "--exist")
		d.flag(timeout != 0xffffffff, "--timeout", decimal(timeout))
	}
	if !del.isNone() {
		d.arg("--del-set", del.name(d), del.directions())
	}
	if d.rev == 3 {
		if m := readSetRef(d, 8); !m.isNone() {
			d.arg("--map-set", m.name(d), m.directions())
			d.flag(flags&(1<<8) != 0, "--map-mark")
			d.flag(flags&(1<<9) != 0, "--map-prio")
			d.flag(flags&(1<<10) != 0, "--map-queue")
		}
	}
	return true
}

// secmarkTarget decodes struct xt_secmark_target_info and xt_secmark_target_info_v1.
func secmarkTarget(d *decoding) bool {
	off := 8
	if d.rev == 1 {
		off = 1
	}
	d.arg("--selctx", printable(d.str(off, 256)))
	return d.rev <= 1 && d.u8(0) == 1
}

// connsecmarkTarget decodes struct xt_connsecmark_target_info.
func connsecmarkTarget(d *decoding) bool {
	switch d.u8(0) {
	case 1:
		d.arg("--save")
	case 2:
		d.arg("--restore")
	default:
		return false
	}
	return d.rev == 0
}

// idletimerTarget decodes struct idletimer_tg_info and idletimer_tg_info_v1.
func idletimerTarget(d *decoding) bool {
	d.arg("--timeout", decimal(d.u32(0)), "--label", printable(d.str(4, 28)))
	if d.rev == 1 {
		d.flag(d.u8(33) == 1, "--alarm")
	}
	return d.rev <= 1
}

// tcpoptstripTarget decodes struct xt_tcpoptstrip_target_info.
func tcpoptstripTarget(d *decoding) bool {
	var list []string
	for i := range 256 {
		if d.u32(i/32*4)&(1<<(i%32)) != 0 {
			list = append(list, decimal(i))
		}
	}
	d.arg("--strip-options", strings.Join(list, ","))
	return d.rev == 0
}

// hmarkTarget decodes struct xt_hmark_info. Like iptables, it shows a tuple of ct alone: the other
// tuples are shown as the masks that they set.
func hmarkTarget(d *decoding) bool {
	flags := d.u32(40)
	write := func(bit int, option, format string, value any) {
		d.flag(flags&(1<<bit) != 0, "--hmark-"+option, fmt.Sprintf(format, value))
	}
	src, _ := PrefixLength(d.addr(0))
	dst, _ := PrefixLength(d.addr(16))
	write(0, "src-prefix", "%d", src)
	write(1, "dst-prefix", "%d", dst)
	write(6, "sport-mask", "0x%04x", d.be16(32))
	write(7, "dport-mask", "0x%04x", d.be16(34))
	write(3, "spi-mask", "0x%08x", d.be32(32))
	write(4, "sport", "0x%04x", d.be16(36))
	write(5, "dport", "0x%04x", d.be16(38))
	write(2, "spi", "0x%08x", d.be32(36))
	write(8, "proto-mask", "0x%02x", d.u16(44))
	write(9, "rnd", "0x%08x", d.u32(48))
	write(10, "mod", "%d", d.u32(52))
	write(11, "offset", "%d", d.u32(56))
	write(12, "tuple", "%s", "ct")
	return d.rev == 0
}
