// Package recording keeps a trace in a file, or sends it through a pipe, so that everything behind the
// kernel's ring buffer can be run on it later and elsewhere.
//
// A recording is a zstd stream (RFC 8878) that begins with a skippable frame which says what it is.
// The stream is a sequence of chunks, each with its length and a CRC-32C, so that what was written
// before a crash or a full disk can be read up to the last chunk:
//
//   - the header, once and first: format, host, boot, clocks, and which fields an event has
//   - events, in the order in which the tracker was given them, each as the difference to the one
//     before, with the moments at which time passed for the tracker between them
//   - records: a type, a JSON value and, for some, raw bytes. A reader skips the types it does not know.
//   - the end mark, without which a recording is incomplete
//
// Names that the kernel gave to numbers (drop reasons, functions) come before the events that need
// them; names of namespaces, devices and addresses come when they are first known and whenever they
// change. The Reader keeps both up to date in Names.
//
// The package knows what is in events and names. What else a trace needs (facts, rules, decided flows)
// is JSON to it, which its only user, package tracer, defines.
package recording
