// Package xt decodes the binary matches and targets of x_tables, as they lie in the tables of
// iptables-legacy and in the match and target expressions that iptables-nft and ebtables-nft write.
//
// The layouts are those of the kernel's include/uapi/linux/netfilter/xt_*.h, netfilter_ipv4/ipt_*.h,
// netfilter_ipv6/ip6t_*.h and netfilter_bridge/ebt_*.h; numbers are in host byte order unless the
// header says otherwise. The text is what `iptables -S` prints, option by option. What a match says
// about a packet follows the kernel's net/netfilter/xt_*.c. The package does no I/O.
package xt

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// Match is one decoded match of a rule.
type Match struct {
	// Name is the match's name as users write it: "conntrack", or "state" where that was written.
	Name string
	// Text is the match as `iptables -S` prints it: "-m tcp --dport 80"; for a match of ebtables as
	// `ebtables -L` does: "--ip-proto tcp --ip-dport 80".
	Text string
	// Comment is the text of a comment match, "" for all others.
	Comment string
	// Judge says whether the match fits p; never nil. Maybe where it depends on what is not known.
	Judge func(p *firewall.Packet) firewall.Truth
}

// Target is one decoded target of a rule.
type Target struct {
	// Text is the target as `iptables -S` prints it: "-j REJECT --reject-with tcp-reset".
	Text string
	// Verdict is what the target does. NETMAP is DNAT here, but see At.
	Verdict firewall.Verdict
}

// At returns what the target does at a hook: NETMAP changes the source where SNAT is allowed.
func (t Target) At(hook firewall.Hook) firewall.Verdict {
	v := t.Verdict
	if strings.HasPrefix(t.Text, "-j NETMAP ") && (hook == firewall.Postrouting || hook == firewall.Input) {
		v.Kind = firewall.SNAT
	}
	return v
}

// Decoder decodes matches and targets. The zero value is ready for use.
type Decoder struct {
	// Bridge is set for rules of ebtables, which has a pkttype and a limit of its own.
	Bridge bool
	// Sets knows the ipsets of the network namespace; nil if they are not known.
	Sets Sets
}

// Match decodes the match of that name and revision of an IPv4 or, if v6, an IPv6 rule. It never
// fails: one that is not known, or whose data are too short, prints "-m name [not decoded]" and
// judges every packet Maybe.
func (dec Decoder) Match(v6 bool, name string, revision uint8, data []byte) Match {
	d := decoding{v6: v6, rev: revision, b: data, name: name, sets: dec.Sets}
	f := matchDecoder(name)
	if dec.Bridge || f == nil {
		if b := bridgeMatch(name); b != nil {
			f = b
		}
	}
	if f != nil {
		if j := f(&d); j != nil && !d.short {
			return Match{Name: d.name, Text: d.text("-m "), Comment: d.comment, Judge: j}
		}
	}
	return Match{Name: name, Text: "-m " + printable(name) + " [not decoded]", Judge: maybe}
}

// Target decodes the target of that name and revision. It never fails: one that is not known, or
// whose data are too short, prints "-j NAME [not decoded]" and its verdict is Unknown.
func (dec Decoder) Target(v6 bool, name string, revision uint8, data []byte) Target {
	d := decoding{v6: v6, rev: revision, b: data, name: name, sets: dec.Sets}
	f := targetDecoder(name)
	if f == nil {
		f = bridgeTarget(name)
	}
	if f != nil {
		if v, ok := f(&d); ok && !d.short {
			return Target{Text: d.text("-j "), Verdict: v}
		}
	}
	name = printable(name)
	return Target{
		Text:    "-j " + name + " [not decoded]",
		Verdict: firewall.Verdict{Kind: firewall.Unknown, Detail: name},
	}
}

// judge is the type of Match.Judge.
type judge = func(p *firewall.Packet) firewall.Truth

// A matchFunc writes a match's options and returns what it says about packets, nil if the revision is
// not known to it.
type matchFunc func(d *decoding) judge

// A targetFunc writes a target's options and returns what it does, false if the revision is not known
// to it.
type targetFunc func(d *decoding) (firewall.Verdict, bool)

func maybe(*firewall.Packet) firewall.Truth { return firewall.Maybe }

func yes(*firewall.Packet) firewall.Truth { return firewall.Yes }

// matchDecoder returns the decoder of the matches called name, nil if there is none.
func matchDecoder(name string) matchFunc {
	for _, group := range []func(string) matchFunc{
		transportMatch, connectionMatch, addressMatch, metaMatch, rateMatch, headerMatch, payloadMatch,
	} {
		if f := group(name); f != nil {
			return f
		}
	}
	return nil
}

// targetDecoder returns the decoder of the targets called name, nil if there is none.
func targetDecoder(name string) targetFunc {
	for _, group := range []func(string) targetFunc{natTarget, changingTarget, endingTarget} {
		if f := group(name); f != nil {
			return f
		}
	}
	return nil
}
