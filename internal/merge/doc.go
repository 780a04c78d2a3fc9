// Package merge makes one path of what several hosts saw of one flow.
//
// Each host follows a flow by itself and knows its own namespaces, devices and rules (View). A packet
// keeps its TCP sequence numbers, its IP identification and its payload on the way between hosts, whatever
// is translated or wrapped around it: by them the views of one flow are found (Joiner) and the
// observations of one packet are put in a row (Exchange).
//
// # Clocks
//
// Every host stamps with its own clock. A packet cannot arrive before it was sent, so each packet that
// goes from A to B bounds the offset of B's clock from above, and each that goes back bounds it from
// below: the offset is the middle of what is left, its error half the width. That error is never more
// than half of the shortest round trip between the two hosts. With packets one way only, the hosts' own
// clocks decide, as far as they do not let a packet arrive before it was sent.
//
// Numbers of network namespaces mean nothing outside of their host. While a verdict is found, those that
// two hosts use for different things are renumbered (spaces); what comes out has the hosts' own again.
//
// The package does no I/O and reads no clock.
package merge
