package xt

import (
	"fmt"
	"strings"
	"time"
)

// payloadMatch returns the decoders of matches on a packet's content and on the clock, which a Packet
// does not hold.
func payloadMatch(name string) matchFunc {
	switch name {
	case "string":
		return stringMatch
	case "bpf":
		return bpfMatch
	case "u32":
		return u32Match
	case "time":
		return timeMatch
	}
	return nil
}

// stringMatch decodes struct xt_string_info.
func stringMatch(d *decoding) judge {
	if d.rev > 1 {
		return nil
	}
	n, flags := int(d.u8(148)), d.u8(149)
	if n > 128 {
		return nil
	}
	pattern := string(d.bytes(20, n))
	hex := strings.HasSuffix(pattern, `\`)
	for i := range len(pattern) {
		hex = hex || pattern[i] < ' ' || pattern[i] > '~'
	}
	if hex {
		d.option(flags&1 != 0, "--hex-string", fmt.Sprintf(`"|%x|"`, pattern))
	} else {
		r := strings.NewReplacer(`"`, `\"`, `\`, `\\`)
		d.option(flags&1 != 0, "--string", `"`+r.Replace(pattern)+`"`)
	}
	d.arg("--algo", printable(d.str(4, 16)))
	d.flag(d.u16(0) != 0, "--from", decimal(d.u16(0)))
	d.flag(d.u16(2) != 0xffff, "--to", decimal(d.u16(2)))
	d.flag(d.rev == 1 && flags&2 != 0, "--icase")
	return maybe
}

// bpfMatch decodes struct xt_bpf_info and xt_bpf_info_v1.
func bpfMatch(d *decoding) judge {
	count, program := int(d.u16(0)), 4
	switch d.rev {
	case 0:
	case 1:
		if d.u16(0) == 1 {
			d.arg("--object-pinned", printable(d.str(8, 512)))
			return maybe
		}
		count, program = int(d.u16(2)), 8
	default:
		return nil
	}
	if count > 64 {
		return nil
	}
	var code strings.Builder
	fmt.Fprintf(&code, "%d", count)
	for i := range count {
		off := program + 8*i
		fmt.Fprintf(&code, ",%d %d %d %d", d.u16(off), d.u8(off+2), d.u8(off+3), d.u32(off+4))
	}
	d.arg("--bytecode", `"`+code.String()+`"`)
	return maybe
}

// u32Match decodes struct xt_u32.
func u32Match(d *decoding) judge {
	const size, values = 180, 88 // of struct xt_u32_test, and where its values begin
	tests := int(d.u8(11 * size))
	if d.rev != 0 || tests > 11 {
		return nil
	}
	var text []string
	for i := range tests {
		off := i * size
		nums, vals := int(d.u8(off+176)), int(d.u8(off+177))
		if nums > 11 || vals > 11 {
			return nil
		}
		var b strings.Builder
		for j := range nums {
			if j > 0 {
				op := d.u8(off + 8*j + 4)
				if op > 3 {
					return nil
				}
				b.WriteString([...]string{"&", "<<", ">>", "@"}[op])
			}
			fmt.Fprintf(&b, "0x%x", d.u32(off+8*j))
		}
		for j := range vals {
			lo, hi := d.u32(off+values+8*j), d.u32(off+values+8*j+4)
			b.WriteString([...]string{"=", ","}[min(j, 1)])
			fmt.Fprintf(&b, "0x%x", lo)
			if lo != hi {
				fmt.Fprintf(&b, ":0x%x", hi)
			}
		}
		text = append(text, b.String())
	}
	d.option(d.u8(11*size+1) != 0, "--u32", `"`+strings.Join(text, "&&")+`"`)
	return maybe
}

// timeMatch decodes struct xt_time_info.
func timeMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	start, stop, months, weeks, flags := d.u32(8), d.u32(12), d.u32(16), d.u8(20), d.u8(21)
	if start != 0 || stop != 24*3600-1 {
		d.arg("--timestart", clock(start), "--timestop", clock(stop))
	}
	if months != 0xfffffffe {
		var days []string
		for i := 1; i < 32; i++ {
			if months&(1<<i) != 0 {
				days = append(days, decimal(i))
			}
		}
		d.arg("--monthdays", strings.Join(days, ","))
	}
	if weeks != 0xfe {
		d.arg("--weekdays", bitNames(uint32(weeks), []bitName{
			{2, "Mon"}, {4, "Tue"}, {8, "Wed"}, {16, "Thu"}, {32, "Fri"}, {64, "Sat"}, {128, "Sun"},
		}))
	}
	date := func(option string, seconds uint32) {
		if seconds != 0 {
			d.arg(option, time.Unix(int64(seconds), 0).UTC().Format("2006-01-02T15:04:05"))
		}
	}
	date("--datestart", d.u32(0))
	date("--datestop", d.u32(4))
	d.flag(flags&1 != 0, "--kerneltz")
	d.flag(flags&2 != 0, "--contiguous")
	return maybe
}

func clock(seconds uint32) string {
	return fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60)
}
