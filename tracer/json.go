package tracer

import "github.com/pathtrace/pathtrace/tracer/path"

// The objects of the JSON output. Their field tags are the contract.
type (
	// Meta describes a trace; it comes first.
	Meta = path.Meta
	// Hop is one observation of a packet.
	Hop = path.Hop
	// Verdict is the conclusion about one flow.
	Verdict = path.Verdict
	// Stats closes a trace; it comes last.
	Stats = path.Stats
	// Finding is one thing that doctor found.
	Finding = path.Finding
)
