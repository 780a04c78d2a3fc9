package diagnose

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// isNetfilterDrop reports whether a netfilter hook discarded the packet. Kernels before 5.17 give no
// reason, only the function.
func isNetfilterDrop(h *path.Hop) bool {
	switch h.Reason {
	case "NETFILTER_DROP":
		return true
	case "", "NOT_SPECIFIED":
		return isRuleFunction(h.Function) || h.Function == "nf_hook_slow"
	}
	return false
}

// isRuleFunction reports whether the function is one that walks rules, so that a drop in it is the
// verdict of a rule or of a chain's policy.
func isRuleFunction(fn string) bool {
	switch fn {
	case "nft_do_chain", "ipt_do_table", "ip6t_do_table":
		return true
	}
	return isNFQueue(fn)
}

// isNFQueue reports whether the function is the one that hands packets to a program (NFQUEUE), and
// discards those that none takes.
func isNFQueue(fn string) bool { return fn == "nf_queue" || fn == "__nf_queue" }

// explainFirewallDrop: a rule, or the policy of a chain, discarded the packet.
func explainFirewallDrop(a *analysis, e *end) *finding {
	if e.drop == nil || e.pkt == nil || !isNetfilterDrop(e.drop) {
		return nil
	}
	if e.icmp != nil || a.resetFrom(e) != nil {
		return nil // explainFirewallReject
	}
	hook, r := e.hook(), a.ruling(e)
	switch {
	case r != nil && r.certain(), hook == "" && r.one() != nil:
	case hook == "", !isRuleFunction(e.drop.Function) && !a.onlyRulesDrop(hook, e.drop):
		return nil
	}
	f := &finding{cause: path.CauseFirewallDrop, where: whereOf(e.drop, e.direction())}
	if hook != "" {
		f.where.Stage = hook
	}
	by, place := a.byRule(e, f, r), a.hookPlace(e, e.drop)+a.wayThrough(e)
	if isNFQueue(e.drop.Function) {
		place += ": no program took it from the queue"
		f.remedy = append(f.remedy, "or start the program that reads that queue, or have the rule say --queue-bypass (nft: bypass)")
	}
	if r.isDeviceHook() {
		f.where.Stage = path.StageDevice
		place = fmt.Sprintf("the %s hook of device %s in %s", r.one().Base.Hook, e.drop.Device, a.place(e.drop))
	}
	f.says = fmt.Sprintf("%s was dropped%s in %s", a.subject(e), by, place)
	if e.drop.Outer != nil {
		f.evidence = append(f.evidence, fmt.Sprintf("what was dropped is the VXLAN packet that carried "+
			"it: %s to %s, VNI %d", e.drop.Outer.Src, e.drop.Outer.Dst, e.drop.Outer.VNI))
	}
	return f
}

// hookPlace names the hook and the namespace of the end.
func (a *analysis) hookPlace(e *end, at *path.Hop) string {
	if hook := e.hook(); hook != "" {
		return fmt.Sprintf("the %s hook (netfilter) of %s", hookName(hook), a.place(at))
	}
	return "the bridge of " + a.place(at)
}

// onlyRulesDrop reports whether a drop whose location is nf_hook_slow can only be a rule's or a
// policy's. From there the kernel reports legacy tables, but also connection tracking (first hooks of
// a packet's way when its table is full, last ones when an entry cannot be confirmed) and NAT.
func (a *analysis) onlyRulesDrop(hook path.Stage, h *path.Hop) bool {
	switch hookName(hook) {
	case "FORWARD":
		return true
	case "INPUT":
		return a.stood(h.NetNS, "nf_conntrack_insert_failed", "nf_conntrack_drop")
	case "PREROUTING":
		return a.conntrackHasRoom(h.NetNS)
	case "OUTPUT":
		// A packet that was marked or translated here is routed again, and dropped if it cannot be.
		return a.conntrackHasRoom(h.NetNS) && h.Outer == nil && !a.hasDNAT()
	}
	return false
}

// conntrackHasRoom reports whether the connection tracking table is known not to be full.
func (a *analysis) conntrackHasRoom(ns uint32) bool {
	count, ok1 := a.sysctl(ns, "net.netfilter.nf_conntrack_count")
	limit, ok2 := a.sysctl(ns, "net.netfilter.nf_conntrack_max")
	return ok1 && ok2 && (limit == 0 || count < limit-limit/10)
}

// explainFirewallReject: a netfilter hook discarded the packet and sent a refusal.
func explainFirewallReject(a *analysis, e *end) *finding {
	hook := e.hook()
	if hook == "" || e.pkt == nil || e.drop != nil && !isNetfilterDrop(e.drop) {
		return nil
	}
	var with string
	switch m := a.icmpOf(e.icmp); {
	case m == icmpTooBig:
		return nil
	case m.isError():
		with = "an ICMP error (" + m.meaning() + ")"
	case e.icmp != nil && a.p.Proto == path.TCP, a.resetFrom(e) != nil:
		with = "a TCP reset"
	case e.icmp != nil:
		with = "an ICMP error"
	default:
		if with = a.rejection(e); with == "" {
			return nil
		}
	}
	at := e.at()
	f := &finding{
		where:    whereOf(at, e.direction()),
		evidence: []string{fmt.Sprintf("%s sent back %s from inside the hook", a.place(at), with)},
	}
	f.where.Stage = hook
	f.says = fmt.Sprintf("%s was rejected%s in %s%s", a.subject(e), a.byRule(e, f, a.ruling(e)),
		a.hookPlace(e, at), a.wayThrough(e))
	f.cause = path.CauseFirewallReject
	return f
}

// rejection names the ICMP error that came back for a packet which a rule rejected, "" if none did.
// Where the kernel sending it is not seen (icmp_send), the rule tells what the packet on its way does not.
func (a *analysis) rejection(e *end) string {
	if e.drop == nil || e.err == nil {
		return ""
	}
	if c := a.ruling(e).one(); c == nil || c.Verdict.Kind != firewall.Reject {
		return ""
	}
	m := a.icmpOf(icmpHop(e.err))
	if !m.isError() || m == icmpTooBig {
		return ""
	}
	return "an ICMP error (" + m.meaning() + ")"
}

// resetFrom returns the RST that the place of the drop sent itself, or nil. A reset that came later,
// for another attempt, from another place or from a socket says nothing about the hook.
func (a *analysis) resetFrom(e *end) *path.Hop {
	if e.drop == nil || e.last == nil || a.p.Proto != path.TCP {
		return nil
	}
	for _, p := range a.resets(e.direction().Opposite()) {
		h := firstHop(p)
		if h != nil && h.NetNS != 0 && h.NetNS == e.drop.NetNS && isLocalStart(h) &&
			hopTime(h) >= hopTime(e.last) && hopTime(h) <= hopTime(e.drop) {
			return h
		}
	}
	return nil
}

// wayThrough says " on its way eth0 → br-app" or " on eth0", as far as the hook was told the devices.
func (a *analysis) wayThrough(e *end) string {
	in, out := "", ""
	for i := range e.pkt.Hops {
		h := &e.pkt.Hops[i]
		if h == e.drop || onPath(h) && h.Stage == e.hook() && sameSpace(h, e.at()) {
			in, out = cmp.Or(a.inDevice(h), in), cmp.Or(a.outDeviceOf(h), out)
		}
	}
	switch {
	case in != "" && out != "":
		return " on its way " + in + " → " + out
	case in != "":
		return ", coming in on " + in
	case out != "":
		return ", going out on " + out
	}
	return onDevice(e.at())
}

// inDevice names the device that a netfilter hook was told the packet came in on; "" if unknown.
func (a *analysis) inDevice(h *path.Hop) string {
	if l := a.link(h.NetNS, h.InIfindex); h.InDevice == "" && l != nil {
		return l.Name
	}
	return h.InDevice
}

// outDeviceOf names the device that a netfilter hook was told the packet goes out on; "" if unknown.
func (a *analysis) outDeviceOf(h *path.Hop) string {
	if l := a.link(h.NetNS, h.OutIfindex); h.OutDevice == "" && l != nil {
		return l.Name
	}
	return h.OutDevice
}

// listRules are the commands that show the rules of a hook with their counters. They change nothing.
func (a *analysis) listRules(hook path.Stage, h *path.Hop) []string {
	tool := "iptables"
	if a.isV6(h) {
		tool = "ip6tables"
	}
	table := ""
	switch hookName(hook) {
	case "PREROUTING":
		table = " -t raw"
	case "POSTROUTING":
		table = " -t mangle"
	}
	cmds := []string{
		a.command(h, fmt.Sprintf("%s%s -L %s -vn --line-numbers", tool, table, hookName(hook))),
		a.command(h, "nft -a list ruleset"),
	}
	if strings.HasPrefix(string(hook), "bridge-netfilter/") {
		cmds = append(cmds, a.command(h, "sysctl net.bridge.bridge-nf-call-iptables")+
			"  # 1: rules for routed packets also see bridged ones")
	}
	return cmds
}
