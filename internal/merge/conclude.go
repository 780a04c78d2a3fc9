package merge

import (
	"fmt"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/shell"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// apart is from which difference on clocks count as wrong: those that are set by the network keep within
// milliseconds.
const apart = time.Second

// Problem is a host that could not be watched, or not to the end.
type Problem struct {
	Host string
	// Why is a sentence.
	Why string
}

// Conclude says how the flow ended and why, on what all hosts saw and know.
func (x *Exchange) Conclude(hosts []Host, problems []Problem) path.Verdict {
	for _, p := range problems {
		x.Facts.Unseen = append(x.Facts.Unseen, p.Why)
		x.Facts.Complete = false
	}
	v := diagnose.Explain(x.Path, x.Facts)
	x.Path.NAT = v.NAT
	x.Restore()
	x.reach(hosts, &v)
	v.Evidence = append(v.Evidence, x.clocks(hosts)...)
	v.Hosts = x.views(hosts, problems)
	return v
}

// reach makes the commands of a remedy such that they run on the host that they are for. Those that are
// for a namespace have that already.
func (x *Exchange) reach(hosts []Host, v *path.Verdict) {
	for i, line := range v.Remedy {
		if !isLocal(line) || strings.Contains(line, "  # on ") {
			continue
		}
		host := ""
		switch {
		case mentions(line, x.Facts.Source.Container):
			host = x.hostOf(&x.Facts.Source)
		case mentions(line, x.Facts.Target.Container):
			host = x.hostOf(&x.Facts.Target)
		case v.Where != nil:
			host = v.Where.Host
		}
		v.Remedy[i] = diagnose.OnHost(host, reachOf(hosts, host), line)
	}
}

func mentions(line, name string) bool { return name != "" && strings.Contains(line, name) }

// isLocal reports whether a remedy is a command for one host: pathtrace and ssh are run from anywhere.
func isLocal(line string) bool {
	program, _, _ := strings.Cut(line, " ")
	return shell.IsCommand(line) && program != "pathtrace" && program != "ssh"
}

// hostOf is the host that an end of the flow is on, "" if unknown.
func (x *Exchange) hostOf(e *diagnose.Endpoint) string {
	for _, list := range [][]uint32{e.NetNS, e.HostNetNS} {
		for _, n := range list {
			if ns := x.Facts.Namespaces[n]; ns != nil && ns.Host != "" {
				return ns.Host
			}
		}
	}
	return ""
}

// clocks says how far the hosts' clocks are apart, and how that is known.
func (x *Exchange) clocks(hosts []Host) []string {
	var out []string
	ref := hosts[x.Reference]
	for i, h := range hosts {
		o, seen := x.Offsets[i]
		if !seen || o.Same {
			continue
		}
		if o.Error == Unbounded {
			out = append(out, fmt.Sprintf("the times of %s and %s are those of their own clocks: no packets were seen on both hosts"+
				" in each direction, by which clocks can be compared", ref.Name, h.Name))
			continue
		}
		by := o.Apart(ref, h)
		relation := "ahead of"
		if by < 0 {
			by, relation = -by, "behind"
		}
		says := fmt.Sprintf("the clock of %s is %s %s that of %s (± %s, from packets: %d there, %d back)", h.Name, span(by),
			relation, ref.Name, path.FormatDuration(o.Error), o.Requests, o.Replies)
		if by >= apart {
			says += ": set one of them; the order of the steps does not rest on it"
		}
		out = append(out, says)
	}
	return out
}

// span writes a difference of clocks: they may be hours apart.
func span(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return path.FormatDuration(d.Nanoseconds())
}

// views says what each host contributed.
func (x *Exchange) views(hosts []Host, problems []Problem) []path.HostView {
	packets := map[string]int{}
	for _, pkt := range x.Path.Packets {
		seen := map[string]bool{}
		for i := range pkt.Hops {
			if name := pkt.Hops[i].Host; !seen[name] {
				seen[name] = true
				packets[name]++
			}
		}
	}
	var out []path.HostView
	for i, h := range hosts {
		v := path.HostView{Host: h.Name, Packets: packets[h.Name]}
		if o, seen := x.Offsets[i]; seen {
			v.Clock, v.ClockOffsetNS = "packets", o.Apart(hosts[x.Reference], h).Nanoseconds()
			switch {
			case i == x.Reference:
				v.Clock, v.ClockOffsetNS = "reference", 0
			case o.Same:
				v.Clock, v.ClockOffsetNS = "kernel", 0
			case o.Error == Unbounded:
				v.Clock = "wall"
			default:
				v.ClockErrorNS = o.Error
			}
		}
		out = append(out, v)
	}
	for _, p := range problems {
		known := false
		for i := range out {
			if out[i].Host == p.Host {
				out[i].Problem, known = p.Why, true
			}
		}
		if !known {
			out = append(out, path.HostView{Host: p.Host, Problem: p.Why})
		}
	}
	return out
}
