// Package diagnose turns a finished flow and the facts read around it into a verdict: where the flow
// ended, why, what was seen on the way, and what to do.
//
// Its functions are pure: no I/O, no clock, no state. The caller follows a flow (package flow), asks
// Needs which facts about which namespaces would settle the question, reads them, and calls Explain.
// Every fact is optional, and a fact that is absent is unknown, never assumed.
//
// A cause is a hypothesis tested on facts. Each family of causes has one file, and each explainer
// says what it saw. A wrong cause is worse than path.CauseUnexplainedDrop, so an explainer that lacks
// the fact that settles its cause stays silent. Where two causes fit, the one nearer to the packet is
// the cause and the other one is named as evidence.
package diagnose
