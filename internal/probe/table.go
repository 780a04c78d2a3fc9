package probe

import (
	"slices"

	"github.com/cilium/ebpf"

	"github.com/pathtrace/pathtrace/internal/bpfobj"
	"github.com/pathtrace/pathtrace/internal/kernel"
)

// Kind is a way of attaching a program.
type Kind string

// The kinds, named as in the kernel's documentation.
const (
	KindTracepoint Kind = "tp_btf"
	KindNetfilter  Kind = "netfilter link"
	KindFunction   Kind = "fentry/fexit"
)

// Hook is one row of the table: a place in the kernel, and the ways to watch it.
type Hook struct {
	Name string // as `pathtrace hooks` and hops name it
	Sees string // what is observed here
	// Without says what is not seen if nothing can be attached.
	Without  string
	Required bool
	// Datagrams says that a TCP segment has nothing to report here (Config.Streams).
	Datagrams bool
	Variants  []Variant // in order of preference
}

// Variant is one way to watch a hook.
type Variant struct {
	Kind     Kind
	Family   string   // object that holds the programs
	Programs []string // all of them are attached
	// OnlyQueued: for a trace that says so (Config.OnlyQueued), and no other.
	OnlyQueued bool
	// Fits reports whether this kernel offers it, and if not, why in a few words.
	Fits func(*kernel.Facts) (bool, string)
}

// Table lists every hook of the tool.
func Table() []Hook {
	return append(packetHooks(), stackHooks()...)
}

// tableFor lists the hooks that a trace can learn something from.
func tableFor(cfg Config) []Hook {
	table := Table()
	if cfg.Streams {
		table = slices.DeleteFunc(table, func(h Hook) bool { return h.Datagrams })
	}
	for i := range table {
		h := &table[i]
		h.Variants = slices.DeleteFunc(h.Variants, func(v Variant) bool { return v.OnlyQueued && !cfg.OnlyQueued })
	}
	return table
}

// packetHooks are those that most packets of a flow meet.
func packetHooks() []Hook {
	return []Hook{
		{
			Name: "net_dev_queue", Required: true,
			Sees:    "a packet handed to a device's queueing discipline",
			Without: "where packets are sent from",
			Variants: append(
				onlyQueued(tracepoint("device", "qdisc_enqueue", "qdisc_enqueue", 0)),
				tracepoint("device", "net_dev_queue", "net_dev_queue", 0)...),
		},
		{
			Name: "net_dev_start_xmit", Required: true,
			Sees:     "a packet handed to a device's driver",
			Without:  "which packets left a queueing discipline",
			Variants: tracepoint("device", "net_dev_start_xmit", "net_dev_start_xmit", 0),
		},
		{
			Name: "netif_receive_skb", Required: true,
			Sees:     "a packet received by a device",
			Without:  "where packets arrive",
			Variants: tracepoint("device", "netif_receive_skb", "netif_receive_skb", 0),
		},
		{
			Name: "kfree_skb", Required: true,
			Sees:    "a dropped packet, with the kernel's reason and function",
			Without: "drops",
			Variants: append(append(
				tracepoint("drop", "kfree_skb", "kfree_skb_socket", 4),
				tracepoint("drop", "kfree_skb", "kfree_skb_reason", 3)...),
				tracepoint("drop", "kfree_skb", "kfree_skb_plain", 2)...),
		},
		{
			Name:     "netfilter",
			Sees:     "a packet entering and leaving each netfilter hook, with its addresses",
			Without:  "the hook that dropped or translated a packet (inferred from the devices then)",
			Variants: netfilterVariants(),
		},
	}
}

// stackHooks are those of sockets, answers and routes.
func stackHooks() []Hook {
	return []Hook{
		{
			Name:     "inet_sock_set_state",
			Sees:     "a TCP socket of the flow being established or closed",
			Without:  "the proof that the target's socket completed the handshake",
			Variants: tracepoint("socket", "inet_sock_set_state", "inet_sock_set_state", 0),
		},
		{
			Name:    "tcp_send_reset",
			Sees:    "the stack answering a packet with a reset, and why",
			Without: "the kernel's reason for a reset (the reset itself is seen)",
			Variants: append(
				tracepoint("socket", "tcp_send_reset", "tcp_send_reset_reason", 3),
				tracepoint("socket", "tcp_send_reset", "tcp_send_reset_plain", 2)...),
		},
		{
			Name:     "tcp_retransmit_skb",
			Sees:     "a socket sending a segment again",
			Without:  "certainty about retransmissions (inferred from sequence numbers then)",
			Variants: tracepoint("socket", "tcp_retransmit_skb", "tcp_retransmit_skb", 0),
		},
		{
			Name: "skb_copy_datagram_iovec", Datagrams: true,
			Sees:     "an application reading the packet from its socket",
			Without:  "when a datagram was read",
			Variants: tracepoint("socket", "skb_copy_datagram_iovec", "skb_copy_datagram_iovec", 0),
		},
		{
			Name: "sk_data_ready", Datagrams: true,
			Sees:     "a datagram queued to the target's socket",
			Without:  "the proof that a UDP socket took a datagram before it is read (no drop after INPUT tells it)",
			Variants: tracepoint("ready", "sk_data_ready", "sk_data_ready", 0),
		},
		{
			Name:     "icmp_send",
			Sees:     "the stack answering a packet with an ICMP error",
			Without:  "ICMP errors that never leave (those that do are seen at the devices)",
			Variants: tracepoint("icmp", "icmp_send", "icmp_send", 0),
		},
		{
			Name:     "fib_table_lookup",
			Sees:     "an IPv4 route look-up and its result",
			Without:  "why an answer was never built: no route back",
			Variants: tracepoint("route", "fib_table_lookup", "fib_table_lookup", 0),
		},
		{
			Name:     "fib6_table_lookup",
			Sees:     "an IPv6 route look-up and its result",
			Without:  "why an answer was never built: no IPv6 route back",
			Variants: tracepoint("route", "fib6_table_lookup", "fib6_table_lookup", 0),
		},
	}
}

// tracepoint makes the variant for a BTF tracepoint; args is the number of arguments it must pass,
// 0 for any.
func tracepoint(family, name, program string, args int) []Variant {
	v := Variant{
		Kind: KindTracepoint, Family: family, Programs: []string{program},
		Fits: func(f *kernel.Facts) (bool, string) {
			n, ok := f.TracepointArgs(name)
			switch {
			case !ok:
				return false, "this kernel has no tracepoint " + name
			case args != 0 && n != args:
				return false, "tracepoint " + name + " passes other arguments"
			}
			return true, ""
		},
	}
	if args > 2 { // reasons came later than global functions that take memory
		return []Variant{v}
	}
	return withInline(v)
}

func onlyQueued(variants []Variant) []Variant {
	for i := range variants {
		variants[i].OnlyQueued = true
	}
	return variants
}

// trampolines is the function that BPF trampolines on kernel functions need.
const trampolines = "register_ftrace_direct"

// netfilterVariants prefers one probe of nf_hook_slow, which sees every namespace, but for kernels that preempt
// themselves in the middle of it.
func netfilterVariants() []Variant {
	function := Variant{
		Kind: KindFunction, Family: "function",
		Programs: []string{"nf_hook_slow_enter", "nf_hook_slow_leave"},
		Fits: func(f *kernel.Facts) (bool, string) {
			// Older BTF describes only functions that can be probed themselves.
			direct := f.HasFunction(trampolines) || f.HasSymbol(trampolines)
			if !f.HasFunction("nf_hook_slow") || !direct {
				return false, "functions cannot be probed on this kernel"
			}
			return true, ""
		},
	}
	links := Variant{
		Kind: KindNetfilter, Family: "netfilter",
		Programs: []string{"netfilter_enter", "netfilter_leave"},
		Fits: func(f *kernel.Facts) (bool, string) {
			if !f.HasType("bpf_nf_link") && !f.HasType("bpf_nf_ctx") {
				return false, "netfilter links need Linux 6.4"
			}
			return true, ""
		},
	}
	return append(append(withInline(unskipped(function)), links), function)
}

// unskipped offers a function probe only where it sees all. A program may be stopped on behalf of the process whose
// packet it looks at, and the kernel skips it for every other process on that processor until it goes on: some ten
// runs in 2,000 connections on 7.3, which preempts itself as all kernels do since 7.0. A netfilter link is never
// skipped, but stands only in namespaces that can be entered.
func unskipped(v Variant) Variant {
	offered := v.Fits
	v.Fits = func(f *kernel.Facts) (bool, string) {
		lacks, err := kernel.Lacking("CAP_SYS_ADMIN")
		if f.HasFunction(lazyPreemption) && err == nil && len(lacks) == 0 {
			return false, "function probes are skipped where this kernel preempts itself"
		}
		return offered(f)
	}
	return v
}

// lazyPreemption is a function of kernels that may preempt themselves anywhere (6.13; all of them since 7.0).
const lazyPreemption = "preempt_model_lazy"

// withInline adds, where there is one, the object whose parser is inlined, for kernels whose global
// BPF functions take no memory (bpf/include/room.h). Each fits only where the other does not.
func withInline(v Variant) []Variant {
	name := v.Family + inlineSuffix
	if inlineFamilies()[name] == nil {
		return []Variant{v}
	}
	offered, inline := v.Fits, v
	v.Fits = func(f *kernel.Facts) (bool, string) {
		if ok, reason := offered(f); !ok {
			return false, reason
		}
		return f.TakesMemory(), "global BPF functions take no memory on this kernel"
	}
	inline.Family = name
	inline.Fits = func(f *kernel.Facts) (bool, string) {
		if ok, reason := offered(f); !ok {
			return false, reason
		}
		return !f.TakesMemory(), "the parser need not be inlined"
	}
	return []Variant{v, inline}
}

// families maps an object's name to its loader.
func families() map[string]func() (*ebpf.CollectionSpec, error) {
	return map[string]func() (*ebpf.CollectionSpec, error){
		"device":    bpfobj.LoadDevice,
		"drop":      bpfobj.LoadDrop,
		"socket":    bpfobj.LoadSocket,
		"ready":     bpfobj.LoadReady,
		"icmp":      bpfobj.LoadICMP,
		"route":     bpfobj.LoadRoute,
		"netfilter": bpfobj.LoadNetfilter,
		"function":  bpfobj.LoadFunction,
	}
}

// mapsFamily is the object that has all shared maps.
const mapsFamily = "netfilter"

// usualFamilies are the objects that nearly every kernel gets; others are read when they are chosen.
func usualFamilies() []string { return []string{"device", "drop", "socket", "ready", "icmp", "route"} }

// inlineSuffix marks the second form of a family.
const inlineSuffix = "_inline"

// inlineFamilies are read only where they are needed.
func inlineFamilies() map[string]func() (*ebpf.CollectionSpec, error) {
	return map[string]func() (*ebpf.CollectionSpec, error){
		"device" + inlineSuffix:   bpfobj.LoadDeviceInline,
		"drop" + inlineSuffix:     bpfobj.LoadDropInline,
		"socket" + inlineSuffix:   bpfobj.LoadSocketInline,
		"function" + inlineSuffix: bpfobj.LoadFunctionInline,
	}
}
