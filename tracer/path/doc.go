// Package path holds the vocabulary of pathtrace: what was observed of a packet (Hop, Packet), the
// flow it belongs to (Path), and what is concluded from it (Verdict).
//
// The types are plain values without behaviour beyond formatting. They import nothing but the
// standard library, so every layer of the program and every user of package tracer can share them.
// Their JSON form is the public contract of pathtrace: fields are only ever added.
package path
