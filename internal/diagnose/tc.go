package diagnose

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainProgram: a tc classifier or an XDP program dropped the packet.
func explainProgram(a *analysis, e *end) *finding {
	if e.drop == nil {
		return a.vanishedInXDP(e)
	}
	h := e.drop
	hook, sure := programHook(h)
	if hook == "" {
		return nil
	}
	var fits []Program
	l := a.deviceOf(h)
	if l != nil {
		for _, p := range l.Programs {
			if p.at(hook) {
				fits = append(fits, p)
			}
		}
	}
	if !sure && (len(fits) == 0 || hook != "XDP" && !a.classifierDropped(h, l)) {
		return nil
	}
	f := &finding{cause: path.CauseTCDrop, where: whereOf(h, e.direction()),
		says: fmt.Sprintf("%s was dropped in %s%s by %s", a.subject(e), a.place(h), onDevice(h),
			programNames(hook, fits)),
		remedy: a.programRemedy(h, hook, fits)}
	if len(fits) > 1 {
		f.evidence = append(f.evidence, fmt.Sprintf("%d programs are attached there, and one of them dropped it",
			len(fits)))
	}
	return f
}

// programHook returns the hook whose program dropped a packet: "XDP", "ingress" or "egress"; "" if
// the drop is of other code. sure is false if other code drops there as well.
func programHook(h *path.Hop) (hook string, sure bool) {
	switch h.Reason {
	case "TC_INGRESS":
		return "ingress", true
	case "TC_EGRESS":
		return "egress", true
	case "XDP":
		return "XDP", true
	case "", "NOT_SPECIFIED":
	default:
		return "", false
	}
	switch h.Function {
	case "do_xdp_generic", "bpf_prog_run_generic_xdp", "netif_receive_generic_xdp":
		return "XDP", true
	case "veth_xdp_rcv_skb", "veth_xdp_rcv_one":
		return "XDP", false // it also drops what it cannot copy
	}
	if h.Reason != "" {
		return "", false // with reasons, classifiers have one (Linux 5.18)
	}
	switch h.Function {
	case "__netif_receive_skb_core", "sch_handle_ingress", "tcf_classify":
		return "ingress", false
	case "__dev_queue_xmit", "sch_handle_egress":
		return "egress", false
	}
	return "", false
}

// classifierDropped reports whether the qdisc that classifiers are attached to counted a drop during
// the flow.
func (a *analysis) classifierDropped(h *path.Hop, l *Link) bool {
	for _, q := range a.space(h.NetNS).Queues {
		if l != nil && q.Ifindex == l.Index && (q.Kind == "clsact" || q.Kind == "ingress") && q.Drops > 0 && !q.Total {
			return true
		}
	}
	return false
}

// at reports whether a program is attached at a hook that programHook names.
func (p Program) at(hook string) bool { return strings.Contains(p.Hook, hook) }

// String names a program: "tcx ingress program drop_web (id 42)".
func (p Program) String() string {
	what := p.Hook + " program"
	if p.Kind != "" && p.Kind != "bpf" {
		what = p.Hook + " filter of kind " + p.Kind
	}
	if p.Name != "" {
		what += " " + p.Name
	}
	if p.ID != 0 {
		what += fmt.Sprintf(" (id %d)", p.ID)
	}
	return what
}

func programNames(hook string, list []Program) string {
	switch len(list) {
	case 0:
		if hook == "XDP" {
			return "an XDP program"
		}
		return "a tc program or filter (" + hook + ")"
	case 1:
		return "the " + list[0].String()
	}
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = "the " + p.String()
	}
	return "one of these: " + strings.Join(names, ", ")
}

func (a *analysis) programRemedy(h *path.Hop, hook string, list []Program) []string {
	dev := quote(h.Device)
	cmds := []string{a.command(h, "bpftool net show dev "+dev)}
	for _, p := range list {
		if p.ID != 0 {
			cmds = append(cmds, fmt.Sprintf("bpftool prog show id %d  # the process that loaded it is in the last line", p.ID))
		}
	}
	switch {
	case hook == "XDP":
		cmds = append(cmds, a.command(h, "ip link set dev "+dev+" xdp off")+"  # not for one that is held by a link")
	case len(list) == 0 || strings.HasPrefix(list[0].Hook, "tc "):
		cmds = append(cmds, a.command(h, "tc filter show dev "+dev+" "+hook))
	}
	return cmds
}

// deviceOf returns the device of an observation, or nil if it is not known.
func (a *analysis) deviceOf(h *path.Hop) *Link {
	if l := a.link(h.NetNS, h.Ifindex); l != nil {
		return l
	}
	return a.linkNamed(h.NetNS, h.Device)
}

// vanishedInXDP explains a packet that was handed to a veth device and never came out of the other
// end, which has an XDP program in native mode: that one sees a packet before there is an sk_buff, so
// no drop is reported.
func (a *analysis) vanishedInXDP(e *end) *finding {
	h := e.last
	if h == nil || h.Action != path.ActionTransmit || e.reset != nil || e.icmp != nil || e.deliver != nil || e.answered() {
		return nil
	}
	l := a.deviceOf(h)
	if l == nil || l.Kind != "veth" {
		return nil
	}
	peer := a.link(l.PeerNetNS, l.PeerIndex)
	if peer == nil {
		return nil
	}
	for _, p := range peer.Programs {
		if p.Hook != "XDP native" {
			continue
		}
		at := &path.Hop{NetNS: l.PeerNetNS, Device: peer.Name, Stage: path.StageDevice,
			Container: a.spaceContainer(l.PeerNetNS), Namespace: a.spaceLabel(l.PeerNetNS)}
		return &finding{cause: path.CauseTCDrop, where: whereOf(at, e.direction()),
			says: fmt.Sprintf("%s left %s through %s and did not come out of %s in %s, where the %s takes packets first",
				a.subject(e), a.place(h), l.Name, peer.Name, a.place(at), p),
			evidence: []string{"a native XDP program drops packets before the kernel's hooks see them"},
			remedy:   a.programRemedy(at, "XDP", []Program{p})}
	}
	return nil
}
