// Package probe loads the BPF objects, attaches their programs and sets the filter.
//
// What can be attached is a table (Table): for each hook the kinds of attachment in order of
// preference, whether the tool can do without it, and what is not seen then. Everything is tied to
// file descriptors of this process: nothing is pinned, so nothing stays, however the process ends.
package probe
