// Package kernel tells facts of the running kernel: which tracepoints it has and what they pass, the
// names of its drop reasons and symbols, and whether this process may use them.
//
// Names come from the kernel itself (BTF, /proc/kallsyms): enum skb_drop_reason is not stable, so
// no table of it is kept here.
package kernel
