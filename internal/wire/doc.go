// Package wire turns ring-buffer records into Events.
//
// The record layout is struct event of bpf/include/event.h; a test compares both through the BTF of
// the compiled objects. An Event also has a text form, one line of key=value pairs, in which test
// data is kept.
package wire
