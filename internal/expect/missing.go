package expect

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Purpose is what an expected rule is for.
type Purpose string

// The purposes of rules.
const (
	Chain      Purpose = "chain"      // a chain of Docker's exists
	Jump       Purpose = "jump"       // a chain of Docker's is called
	Publish    Purpose = "publish"    // DNAT of a published port
	Open       Purpose = "open"       // the way to a published port is open
	Masquerade Purpose = "masquerade" // translation of what leaves the host
	Hairpin    Purpose = "hairpin"    // translation of what comes back to the same network
	Outgoing   Purpose = "outgoing"   // the way out of a network is open
	Answers    Purpose = "answers"    // answers may enter a network
	ICC        Purpose = "icc"        // containers of one network may talk, or may not
	Protection Purpose = "protection" // what is not published stays closed
)

// Missing is a rule, or a chain, that Docker should have made and that is not there.
type Missing struct {
	Cause   path.Cause
	Purpose Purpose
	// Sentence says what is missing, without a full stop.
	Sentence string
	// Exposes is set if nothing is stopped by its absence: something is open that should be closed.
	Exposes bool

	Backend      firewall.Backend
	Family       firewall.Family
	Table, Chain string
	// Rule is how its tool lists it: "-A DOCKER ! -i br-app -p tcp ...", or in nft's syntax; empty for
	// a chain.
	Rule string
	// Command adds it again, in the engine's network namespace. It is empty where one command cannot,
	// or where it is not certain how Docker would write the rule.
	Command string

	// Network, Container and Port are what the rule is for; empty where it is for all.
	Network, Container string
	Port               Port
	// Stale is where the rule that is there leads instead; empty if there is none.
	Stale string

	covers match
	hook   firewall.Hook
}

// OutlivesRestart reports whether a restart of an engine with live-restore may leave it missing: it
// makes the jump to DOCKER-USER only when it makes a network (seen with 20.10).
func (m *Missing) OutlivesRestart() bool {
	return m.Purpose == Jump && strings.HasSuffix(m.Rule, " -j "+userChain)
}

// Covers says whether the missing rule would have matched p, a packet as it is seen at the hook from
// which Docker's chains are called.
func (m *Missing) Covers(p *firewall.Packet) firewall.Truth {
	hook := m.hook == p.Hook || m.hook == firewall.Prerouting && p.Hook == firewall.Output && m.Purpose == Publish
	if !hook || p.IsIPv6() != (m.Family == firewall.FamilyIP6) {
		return firewall.No
	}
	return m.covers.covers(p)
}
