package mtu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Facts are what a verdict rests on.
type Facts struct {
	// Directions are what was measured.
	Directions []path.MTU
	// Expect is the least that the path should carry, bytes; 0 without such a demand.
	Expect int
	// Source and Target are the names of the ends.
	Source, Target string
	// Complete is false if observations were lost; LostEvents says how many.
	Complete   bool
	LostEvents uint64
	// OpenRule are the commands that let ICMP errors pass the rule that dropped one, by direction of
	// the probes; RuleEvidence says what shows that it was that rule.
	OpenRule, RuleEvidence map[path.Direction][]string
	// Routes are the senders' routes as `ip route replace` takes them: "10.0.0.2 via 10.0.0.1 dev eth0".
	Routes map[path.Direction]string
	// Detours are commands that go round the route that is the limit, where no device is.
	Detours map[path.Direction]string
	// Spaces describes the namespaces of the path, by inode number.
	Spaces map[uint32]Space
	// Networks are Docker's, by name.
	Networks map[string]Network
}

// Space is a network namespace of the path.
type Space struct {
	// Enter is put in front of a command so that it runs there; empty for the own one.
	Enter string
	// Container is the container it is of, "" if of none.
	Container string
	// Clamp is the tool of its firewall: iptables, iptables-legacy, nft or what has none, "".
	Clamp string
	// Forwards is set if packets are routed there.
	Forwards bool
}

// Network is a Docker network.
type Network struct {
	Driver string
	MTU    int // of its option; 0 if not set
	// Default is set on the network that every engine has, which cannot be made anew.
	Default, Attachable bool
}

// Conclude makes the verdict.
func Conclude(f Facts) path.Verdict {
	c := &conclusion{f: f, v: path.Verdict{Type: "verdict", Flow: 1, Outcome: path.Delivered, Complete: f.Complete, LostEvents: f.LostEvents}}
	failed := false
	for _, m := range c.worstFirst() {
		failed = c.judge(m, !failed) || failed
	}
	if !failed {
		failed = c.expected()
	}
	if !failed {
		c.delivered()
	}
	if len(f.Directions) > 0 {
		m := &f.Directions[0]
		c.v.Proto, c.v.Src, c.v.Dst, c.v.SrcName, c.v.DstName = m.Proto, m.Src, m.Dst, f.Source, f.Target
	}
	return c.v
}

// worstFirst returns the directions, those first in which a rule dropped the ICMP error: of all that can
// be wrong it is what somebody did, and can undo.
func (c *conclusion) worstFirst() []*path.MTU {
	var out []*path.MTU
	for i := range c.f.Directions {
		m := &c.f.Directions[i]
		if m.End != nil && m.End.Lost != nil && m.End.Lost.Rule != nil {
			out = slices.Insert(out, 0, m)
			continue
		}
		out = append(out, m)
	}
	return out
}

// conclusion is a verdict in the making.
type conclusion struct {
	f Facts
	v path.Verdict
}

// judge decides about one direction and reports whether packets that its sender sends do not get
// through; first is set as long as none failed.
func (c *conclusion) judge(m *path.MTU, first bool) bool {
	if m.TooBig == 0 || m.End == nil {
		return false
	}
	if m.Discovery != path.DiscoveryFails {
		c.warn(path.CausePacketTooBig, fmt.Sprintf("%s sends up to %d bytes, %s %d: path MTU discovery works, and costs the first "+
			"large packet of each connection", c.sender(m), m.SenderMTU, c.carry(m), Usable(m)))
		return false
	}
	if m.RouteMTU > 0 && m.RouteMTU <= m.MTU {
		return false // the sender's kernel sends nothing larger that way, whatever the protocol
	}
	if c.safe(m) {
		c.warn(path.CauseMTUBlackhole, fmt.Sprintf("%s, and the sender is not told; TCP is safe, as its packets have at most %d "+
			"bytes (MSS), other protocols are not", c.vanish(m), m.TCPPacket))
		return false
	}
	if !first {
		c.addEvidence(c.vanish(m) + " as well, and " + c.untold(m))
		c.addEvidence(c.evidence(m)...)
		c.addRemedy(c.remedy(m))
		return true
	}
	c.v.Cause = path.CauseMTUBlackhole
	c.v.Outcome = path.Dropped
	if m.End.Kind == path.TooBigUnseen || m.End.Kind == path.TooBigUnanswered && m.End.Where == nil {
		c.v.Outcome = path.Lost
	}
	c.v.Summary = fmt.Sprintf("%s: %s, and %s", c.v.Outcome, c.vanish(m), c.untold(m))
	c.v.Where = m.End.Where
	if m.End.Lost != nil && m.End.Lost.Rule != nil {
		where := *m.End.Lost
		c.v.Where = &where
	}
	c.addEvidence(c.evidence(m)...)
	c.addRemedy(c.remedy(m))
	return true
}

// safe reports whether what TCP sends in this direction fits for reasons that last.
func (c *conclusion) safe(m *path.MTU) bool {
	return m.Proto == path.TCP && m.TCPPacket > 0 && m.TCPPacket <= m.MTU && (m.CachedMTU == 0 || m.CachedMTU > m.MTU)
}

// sender and receiver name the ends of a direction.
func (c *conclusion) sender(m *path.MTU) string {
	if m.Direction == path.Reply {
		return c.f.Target
	}
	return c.f.Source
}

func (c *conclusion) receiver(m *path.MTU) string {
	if m.Direction == path.Reply {
		return c.f.Source
	}
	return c.f.Target
}

// carry is the subject of what carries something.
func (c *conclusion) carry(m *path.MTU) string {
	if l := limit(m); l != nil {
		return fmt.Sprintf("the way to %s through %s carries", c.receiver(m), linkName(l))
	}
	if m.LimitRoute != "" {
		return fmt.Sprintf("the way to %s, by %s, carries", c.receiver(m), m.LimitRoute)
	}
	return fmt.Sprintf("the way to %s carries", c.receiver(m))
}

// vanish says that packets vanish, and where.
func (c *conclusion) vanish(m *path.MTU) string {
	return fmt.Sprintf("packets of more than %d bytes from %s vanish %s", m.MTU, c.sender(m), c.at(m))
}

// at says where the packets end.
func (c *conclusion) at(m *path.MTU) string {
	l := limit(m)
	switch {
	case m.End.Kind == path.TooBigUnseen && m.End.Where != nil:
		return "behind " + deviceIn(m.End.Where.Device, m.End.Where.Container, m.End.Where.Namespace)
	case l != nil:
		return fmt.Sprintf("before %s (MTU %d)", linkName(l), l.MTU)
	case m.End.Where != nil:
		return "at " + deviceIn(m.End.Where.Device, m.End.Where.Container, m.End.Where.Namespace)
	}
	return "on the way"
}

// untold says why the sender does not know.
func (c *conclusion) untold(m *path.MTU) string {
	switch e := m.End; {
	case e.Lost != nil && e.Lost.Rule != nil:
		return fmt.Sprintf("the ICMP error that says so was dropped by rule %d of chain %s in %s", e.Lost.Rule.Number,
			e.Lost.Rule.Chain, place(e.Lost))
	case e.Lost != nil:
		return "the ICMP error that says so was dropped in " + place(e.Lost)
	case e.Kind == path.TooBigUnanswered:
		return "the ICMP error that says so did not come back"
	case e.Kind == path.TooBigUnseen:
		return "nothing comes back for them"
	}
	if isLinkDrop(m.End.Where) {
		return "the sender is not told: between the devices of one link nobody sends an ICMP error"
	}
	return "the sender is not told"
}

// isLinkDrop reports whether the function is one that drops what is larger than the next device's MTU
// (is_skb_forwardable in net/core/dev.c, br_nf_dev_queue_xmit in net/bridge/br_netfilter_hooks.c).
func isLinkDrop(w *path.Where) bool {
	return w != nil && (isForwardable(w.Function) || strings.HasPrefix(w.Function, "br_"))
}

// isForwardable reports whether the function asks is_skb_forwardable, which lets pass what is still to be cut (GSO).
func isForwardable(function string) bool {
	switch function {
	case "__dev_forward_skb", "__dev_forward_skb2", "veth_forward_skb", "veth_xmit", "br_dev_queue_push_xmit", "br_forward_finish":
		return true
	}
	return false
}

// evidence are the facts behind a direction's verdict.
func (c *conclusion) evidence(m *path.MTU) []string {
	out := []string{fmt.Sprintf("%d bytes from %s to %s passed, %d did not", m.MTU, c.sender(m), c.receiver(m), m.TooBig)}
	e := m.End
	if w := e.Where; w != nil && w.Function != "" {
		out = append(out, fmt.Sprintf("%s dropped it in %s%s", w.Function, place(w), reason(w)))
	}
	if e.Kind == path.TooBigUnanswered {
		s := "an ICMP error was sent"
		if e.NextHopMTU > 0 {
			s += fmt.Sprintf(" that says MTU %d", e.NextHopMTU)
		}
		if e.Lost != nil && e.Lost.Function != "" {
			s += fmt.Sprintf("; %s dropped it in %s%s", e.Lost.Function, place(e.Lost), reason(e.Lost))
		}
		out = append(out, s)
	}
	out = append(out, c.f.RuleEvidence[m.Direction]...)
	if m.TCPPacket > m.MTU {
		out = append(out, fmt.Sprintf("TCP of %s sends packets of up to %d bytes, by the MSS of both sides", c.sender(m), m.TCPPacket))
	}
	return out
}

func reason(w *path.Where) string {
	if w.Reason == "" {
		return ""
	}
	return " (" + w.Reason + ")"
}

// expected compares with what was demanded.
func (c *conclusion) expected() bool {
	for i := range c.f.Directions {
		m := &c.f.Directions[i]
		if c.f.Expect == 0 || m.MTU == 0 || m.MTU >= c.f.Expect {
			continue
		}
		c.v.Outcome, c.v.Cause = path.Dropped, path.CausePacketTooBig
		c.v.Summary = fmt.Sprintf("dropped: packets of %d bytes are expected to pass from %s to %s, and %d do%s", c.f.Expect,
			c.sender(m), c.receiver(m), m.MTU, c.because(m))
		if m.End != nil {
			c.v.Where = m.End.Where
		}
		c.addRemedy(c.raise())
		return true
	}
	return false
}

// because names the limit.
func (c *conclusion) because(m *path.MTU) string {
	if l := limit(m); l != nil {
		return fmt.Sprintf(": the limit is %s (MTU %d)", linkName(l), l.MTU)
	}
	if m.LimitRoute != "" {
		return ": the limit is " + m.LimitRoute
	}
	return ""
}

// delivered is the summary of a path without holes.
func (c *conclusion) delivered() {
	if len(c.f.Directions) == 0 || c.f.Directions[0].MTU == 0 {
		c.v.Outcome, c.v.Summary = path.Lost, "lost: what sizes pass could not be measured"
		return
	}
	c.v.Summary = c.passes(&c.f.Directions[0])
	c.cached()
	c.routed()
	c.cut()
	for i := range c.f.Directions {
		if m := &c.f.Directions[i]; m.TooBig > 0 && m.End != nil {
			c.addRemedy(c.network(m))
		}
	}
}

// passes says what passes both ways, m being the way there.
func (c *conclusion) passes(m *path.MTU) string {
	s := fmt.Sprintf("delivered: packets of up to %d bytes pass from %s to %s", m.MTU, c.sender(m), c.receiver(m))
	if len(c.f.Directions) > 1 {
		switch back := &c.f.Directions[1]; {
		case back.MTU == m.MTU:
			s += " and back"
		case back.MTU > 0:
			s += fmt.Sprintf(", and of up to %d back", back.MTU)
		}
	}
	if m.TooBig == 0 {
		s += fmt.Sprintf("; the device of %s sends nothing larger", c.sender(m))
	}
	if len(c.f.Directions) == 1 {
		s += fmt.Sprintf("; the way back could not be measured: %s is in none of the namespaces here, and answers no echoes", c.receiver(m))
	}
	return s
}

// routed warns of a sender's route that allows less than what passes.
func (c *conclusion) routed() {
	for i := range c.f.Directions {
		if m := &c.f.Directions[i]; m.RouteMTU > 0 && m.RouteMTU < Usable(m) {
			c.warn(path.CausePacketTooBig, fmt.Sprintf("the route of %s says MTU %d, so that it sends nothing larger this way; %d bytes would pass",
				c.sender(m), m.RouteMTU, Usable(m)))
		}
	}
}

// cached warns of an exception in a route cache that says less than what passes by now.
func (c *conclusion) cached() {
	for i := range c.f.Directions {
		if m := &c.f.Directions[i]; m.CachedMTU > 0 && m.CachedMTU < Usable(m) {
			c.warn(path.CausePacketTooBig, fmt.Sprintf("%s has learned an MTU of %d for this path, and %d pass by now: the exception in "+
				"its route cache holds for %d s more", c.sender(m), m.CachedMTU, Usable(m), m.CachedSeconds))
			if space, ok := c.senderSpace(m); ok {
				c.addRemedy([]string{space.Enter + "ip route flush cache  # forgets what was learned of all paths"})
			}
		}
	}
}

// senderSpace is the namespace of the sender.
func (c *conclusion) senderSpace(m *path.MTU) (Space, bool) {
	if len(m.Links) == 0 {
		return Space{}, false
	}
	space, ok := c.f.Spaces[m.Links[0].NetNS]
	return space, ok
}

// cut warns of packets that pass in fragments only.
func (c *conclusion) cut() {
	for i := range c.f.Directions {
		m := &c.f.Directions[i]
		if m.Fragmented == nil {
			continue
		}
		c.warn(path.CausePacketTooBig, fmt.Sprintf("packets of more than %d bytes from %s are cut into fragments at %s: that costs "+
			"processor time, and one lost fragment loses all", m.FragmentsAbove, c.sender(m),
			deviceIn(m.Fragmented.Device, m.Fragmented.Container, m.Fragmented.Namespace)))
	}
}

func (c *conclusion) warn(cause path.Cause, text string) {
	c.v.Warnings = append(c.v.Warnings, path.Warning{Cause: cause, Summary: text})
}

// addRemedy adds commands that are not there yet.
func (c *conclusion) addRemedy(list []string) { c.v.Remedy = addNew(c.v.Remedy, list) }

// addEvidence adds sentences that are not there yet.
func (c *conclusion) addEvidence(list ...string) { c.v.Evidence = addNew(c.v.Evidence, list) }

func addNew(to, list []string) []string {
	for _, s := range list {
		if !slices.Contains(to, s) {
			to = append(to, s)
		}
	}
	return to
}

// limit returns the limiting link, nil if it is not known.
func limit(m *path.MTU) *path.MTULink {
	for i := range m.Links {
		if m.Links[i].Limit {
			return &m.Links[i]
		}
	}
	return nil
}

// linkName is "eth0 in container web".
func linkName(l *path.MTULink) string { return deviceIn(l.Device, l.Container, l.Namespace) }

func deviceIn(device, container, namespace string) string {
	in := namespace
	if container != "" {
		in = "container " + container
	}
	switch {
	case device == "":
		return in
	case in == "":
		return device
	}
	return device + " in " + in
}

// place names a namespace.
func place(w *path.Where) string { return deviceIn("", w.Container, w.Namespace) }
