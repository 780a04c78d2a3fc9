package xt

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// rateMatch returns the decoders of matches that depend on more packets than the one.
func rateMatch(name string) matchFunc {
	switch name {
	case "limit":
		return limitMatch
	case "hashlimit":
		return hashlimitMatch
	case "statistic":
		return statisticMatch
	case "recent":
		return recentMatch
	case "connlimit":
		return connlimitMatch
	case "quota":
		return quotaMatch
	case "cluster":
		return clusterMatch
	case "nfacct":
		return nfacctMatch
	}
	return nil
}

// rateText writes a period, in units of which scale are a second, as "5/min".
func rateText(period, scale uint64) string {
	if period == 0 {
		return "inf"
	}
	rates := [...]struct {
		name string
		mult uint64
	}{{"day", 24 * 3600 * scale}, {"hour", 3600 * scale}, {"min", 60 * scale}, {"sec", scale}}
	i := 1
	for ; i < len(rates); i++ {
		if m := rates[i].mult; period > m || m/period < m%period {
			break
		}
	}
	return fmt.Sprintf("%d/%s", rates[i-1].mult/period, rates[i-1].name)
}

// limitMatch decodes struct xt_rateinfo.
func limitMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	avg, burst := d.u32(0), d.u32(4)
	d.arg("--limit", rateText(uint64(avg), 10000))
	d.flag(burst != 5, "--limit-burst", decimal(burst))
	return maybe
}

// statisticMatch decodes struct xt_statistic_info. A probability of one and each first of one packet
// always match, which is how kube-proxy ends its lists.
func statisticMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	inverted := d.u16(2)&1 != 0
	always := false
	switch d.u16(0) {
	case 0:
		p := d.u32(4)
		always = p >= 0x80000000
		d.arg("--mode", "random")
		d.option(inverted, "--probability", fmt.Sprintf("%.11f", float64(p)/0x80000000))
	case 1:
		every := d.u32(4)
		always = every == 0
		d.arg("--mode", "nth")
		d.option(inverted, "--every", decimal(uint64(every)+1))
		d.arg("--packet", decimal(d.u32(8)))
	default:
		return nil
	}
	if always {
		return func(*firewall.Packet) firewall.Truth { return firewall.Of(!inverted) }
	}
	return maybe
}

// recentMatch decodes struct xt_recent_mtinfo and xt_recent_mtinfo_v1.
func recentMatch(d *decoding) judge {
	if d.rev > 1 {
		return nil
	}
	check := d.u8(8)
	inverted := d.u8(9) != 0
	for _, o := range []struct {
		bit    uint8
		option string
	}{{2, "--set"}, {1, "--rcheck"}, {4, "--update"}, {8, "--remove"}} {
		if check&o.bit != 0 {
			d.option(inverted, o.option)
			break
		}
	}
	seconds, hits := d.u32(0), d.u32(4)
	d.flag(seconds != 0, "--seconds", decimal(seconds))
	d.flag(check&32 != 0, "--reap")
	d.flag(hits != 0, "--hitcount", decimal(hits))
	d.flag(check&16 != 0, "--rttl")
	if name := d.str(10, 200); name != "" {
		d.arg("--name", printable(name))
	}
	if d.rev == 1 {
		d.arg("--mask", d.addr(212).String())
	}
	if d.u8(210) == 0 {
		d.arg("--rsource")
	} else {
		d.arg("--rdest")
	}
	if check&2 != 0 { // --set always matches
		return func(*firewall.Packet) firewall.Truth { return firewall.Of(!inverted) }
	}
	return maybe
}

// connlimitMatch decodes struct xt_connlimit_info.
func connlimitMatch(d *decoding) judge {
	if d.rev != 1 {
		return nil
	}
	flags := d.u32(20)
	option := "--connlimit-above"
	if flags&1 != 0 {
		option = "--connlimit-upto"
	}
	d.arg(option, decimal(d.u32(16)))
	if bits, ok := PrefixLength(d.addr(0)); ok {
		d.arg("--connlimit-mask", decimal(bits))
	} else {
		d.arg("--connlimit-mask", d.addr(0).String())
	}
	if flags&2 != 0 {
		d.arg("--connlimit-daddr")
	} else {
		d.arg("--connlimit-saddr")
	}
	return maybe
}

// quotaMatch decodes struct xt_quota_info.
func quotaMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	d.option(d.u32(0)&1 != 0, "--quota", decimal(d.u64(8)))
	return maybe
}

// clusterMatch decodes struct xt_cluster_match_info.
func clusterMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	d.option(d.u32(12)&1 != 0, "--cluster-local-nodemask", fmt.Sprintf("0x%08x", d.u32(4)))
	d.arg("--cluster-total-nodes", decimal(d.u32(0)))
	d.argf("--cluster-hash-seed 0x%08x", d.u32(8))
	return maybe
}

// nfacctMatch decodes struct xt_nfacct_match_info.
func nfacctMatch(d *decoding) judge {
	if d.rev > 1 {
		return nil
	}
	d.arg("--nfacct-name", printable(d.str(0, 32)))
	return maybe
}

// hashConfig is struct hashlimit_cfg3, to which the older ones are brought.
type hashConfig struct {
	name                                  string
	avg, burst                            uint64
	mode, size, max, gc, expire, interval uint32
	srcMask, dstMask                      uint8
}

func readHashConfig(d *decoding) hashConfig {
	if d.rev == 1 {
		return hashConfig{
			name: d.str(0, 16), mode: d.u32(16), avg: uint64(d.u32(20)), burst: uint64(d.u32(24)),
			size: d.u32(28), max: d.u32(32), gc: d.u32(36), expire: d.u32(40),
			srcMask: d.u8(44), dstMask: d.u8(45),
		}
	}
	c := hashConfig{ // after the name of NAME_MAX (255) bytes
		name: d.str(0, 255), avg: d.u64(256), burst: d.u64(264), mode: d.u32(272), size: d.u32(276),
		max: d.u32(280), gc: d.u32(284), expire: d.u32(288),
	}
	if d.rev == 2 {
		c.srcMask, c.dstMask = d.u8(292), d.u8(293)
		return c
	}
	c.interval, c.srcMask, c.dstMask = d.u32(292), d.u8(296), d.u8(297)
	return c
}

// Bits of the mode, XT_HASHLIMIT_*.
const (
	hashDstIP = 1 << iota
	hashDstPort
	hashSrcIP
	hashSrcPort
	hashInvert
	hashBytes
	hashRateMatch
)

// hashlimitMatch decodes struct xt_hashlimit_mtinfo1 to 3.
func hashlimitMatch(d *decoding) judge {
	if d.rev < 1 || d.rev > 3 {
		return nil
	}
	c := readHashConfig(d)
	option := "--hashlimit-upto"
	if c.mode&hashInvert != 0 {
		option = "--hashlimit-above"
	}
	var expire uint32
	if c.mode&hashBytes != 0 {
		expire = c.writeBytes(d, option)
	} else {
		expire = c.writeRate(d, option)
	}
	if m := bitNames(c.mode, []bitName{
		{hashSrcIP, "srcip"}, {hashSrcPort, "srcport"}, {hashDstIP, "dstip"}, {hashDstPort, "dstport"},
	}); m != "" {
		d.arg("--hashlimit-mode", m)
	}
	d.arg("--hashlimit-name", printable(c.name))
	number := func(set bool, option string, value uint32) {
		d.flag(set, "--hashlimit-"+option, decimal(value))
	}
	number(c.size != 0, "htable-size", c.size)
	number(c.max != 0, "htable-max", c.max)
	number(c.gc != 1000, "htable-gcinterval", c.gc)
	number(c.expire != expire, "htable-expire", c.expire)
	full := uint8(32)
	if d.v6 {
		full = 128
	}
	number(c.srcMask != full, "srcmask", uint32(c.srcMask))
	number(c.dstMask != full, "dstmask", uint32(c.dstMask))
	if d.rev == 3 && c.mode&hashRateMatch != 0 {
		d.arg("--hashlimit-rate-match")
		number(c.interval != 1, "rate-interval", c.interval)
	}
	return maybe
}

// writeRate writes packets in time and returns the default of the entries' life in milliseconds.
func (c hashConfig) writeRate(d *decoding, option string) uint32 {
	scale := uint64(1000000)
	if d.rev == 1 {
		scale = 10000
	}
	text := rateText(c.avg, scale)
	d.arg(option, text, "--hashlimit-burst", decimal(c.burst))
	_, unit, _ := strings.Cut(text, "/")
	return map[string]uint32{"day": 86400000, "hour": 3600000, "min": 60000, "sec": 1000}[unit]
}

// writeBytes writes bytes in time and returns the default of the entries' life in milliseconds.
func (c hashConfig) writeBytes(d *decoding, option string) uint32 {
	// The cost of sixteen bytes (XT_HASHLIMIT_BYTE_SHIFT) is a share of 2^32.
	cost := func(bytes uint64) uint64 { return 0xffffffff / (bytes>>4 + 1) }
	rate := (0xffffffff/max(c.avg, 1) - 1) << 4
	units := []struct {
		name string
		size uint64
	}{{"m", 1 << 20}, {"k", 1 << 10}, {"", 1}}
	i := 0
	for ; i < len(units)-1; i++ {
		if u := units[i].size; rate >= u && cost(rate&^(u-1)) == c.avg {
			break
		}
	}
	d.arg(option, fmt.Sprintf("%d%sb/s", rate/units[i].size, units[i].name))
	if c.burst == 0 {
		return 15000
	}
	total := rate * c.burst
	for i = 0; i < len(units)-1 && total < units[i].size; i++ {
	}
	d.arg("--hashlimit-burst", fmt.Sprintf("%d%sb", total/units[i].size, units[i].name))
	return 60000
}
