package render

import "github.com/pathtrace/pathtrace/tracer/path"

// StepKind tells what a step means for the packet.
type StepKind uint8

// The kinds of steps.
const (
	StepPass    StepKind = iota // it went on: sent, received, bridged, forwarded, encapsulated
	StepNAT                     // an address was translated
	StepDeliver                 // a socket took it
	StepRefuse                  // it was answered with a rejection, a reset or an ICMP error
	StepDrop                    // it was discarded, or there was no way on
	StepNote                    // a remark about several packets: sent again, closed, not shown
)

// Step is one thing that happened to a packet, as a person sees it.
type Step struct {
	// OffsetNS is the time since the flow's first observation, ns.
	OffsetNS int64
	// Device on which it happened, the one it left for if there are two; may be empty.
	Device string
	Text   string
	Kind   StepKind
	// Packet is the path.Packet.ID that the step is about; 0 for a note about several.
	Packet int
}

// Group is the steps at one place.
type Group struct {
	// Section is the part of the exchange: "request", "reply", "request, 2nd attempt", "then".
	Section   string
	Direction path.Direction
	// Where is the place: "container web", "host", "netns X"; empty for notes.
	Where string
	Steps []Step
}

// Steps compresses the hops of a path to steps grouped by place, in the order in which they
// happened. Packets that neither open, close nor reset the flow, nor were dropped, are only counted
// in a note.
func Steps(p *path.Path) []Group { return nil }

// Packets selects the packets of a path to show: with all every one, else those that open the
// flow, close or reset it, ICMP errors about it, and every dropped one.
func Packets(p *path.Path, all bool) []*path.Packet { return p.Packets }
