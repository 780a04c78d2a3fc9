package tracer

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Config describes a trace. Only Target is required.
type Config struct {
	// Target is what is traced to: NAME[:PORT], where NAME is a container, a Compose service, an
	// alias, a named network namespace, an address, a host name or "host".
	Target string
	// Source, if set, is where one probe is sent from; else live traffic is watched.
	Source string
	// Proto is tcp, udp or icmp; empty means tcp, or icmp if the target has no port.
	Proto path.Proto
	// DockerHosts are engine addresses; empty means DOCKER_HOST, then the usual socket. No engine at
	// all is fine: names then come from namespaces.
	DockerHosts []string
	// NoDocker asks no engine: names come from namespaces only.
	NoDocker bool
	// Namespaces are network namespaces that no scan would find, with the names to use for them.
	Namespaces []Namespace
	// Confined ignores what is seen outside of Namespaces: it is of others with the same addresses.
	Confined bool
	// PreferIPv6 makes the probe use IPv6 where both fit.
	PreferIPv6 bool

	// Timeout is how long the probe waits for an answer; 0 means 2 s.
	Timeout time.Duration
	// Duration ends a trace without Source; 0 means when the context ends.
	Duration time.Duration
	// Count ends a trace without Source after so many flows; 0 means no limit.
	Count int
	// AllPackets follows every packet instead of those that open, close or reset a connection, and
	// those that are dropped.
	AllPackets bool
	// Packets copies the headers of each observed packet into its hop (path.Hop.Capture).
	Packets bool
	// Snaplen, with Packets, is how many bytes are copied instead of the headers, 65,535 at most.
	Snaplen int
	// TraceRules lists the nf_tables rules that the flow's packets pass: it adds a table with the
	// owner flag to each namespace of the path, which goes with the Tracer or the process.
	TraceRules bool
	// Buffer is the size of the kernel's event buffer in bytes, a power of two; 0 means 1 MiB for a probe,
	// else 2 MiB per processor, 4 MiB at least and 64 MiB at most.
	Buffer uint32
	// Record, if set, keeps the trace in a file, for Replay.
	Record *RecordConfig
	// Version is what Meta.Version says.
	Version string

	// The callbacks are called one at a time, from goroutines of the Tracer, before Run returns; they
	// may be nil.

	// OnStart is called when everything is attached, before the probe is sent.
	OnStart func(Meta)
	// OnRest is called when what is read after the start has been read, too: memory that the start took
	// can then be given back.
	OnRest func()
	// OnFlow is called for every flow that was decided. The callee owns the flow.
	OnFlow func(Flow)
	// LendsFlows leaves OnFlow the packets of a flow's Path during the call only: their memory is used for
	// other flows.
	LendsFlows bool
	// OnNote is called with a sentence for people: no Docker here, no traffic yet, …
	OnNote func(string)
	// OnProgress is called with a few words on how far a measurement is, often.
	OnProgress func(string)
	// Log takes what happens in the background; nil discards it.
	Log *slog.Logger

	// share is what a host is told that traces with others; see RunHosts.
	share share
}

// share is one host's part of a trace of several.
type share struct {
	// Also are ends that are watched like the target's own: those that it has on another host.
	Also []Endpoint `json:"also,omitempty"`
	// Own ignores what is seen outside of the namespaces that belong to this host: its own, those of its
	// engines' containers and those that they keep for overlays. It is for hosts that share a kernel.
	Own bool `json:"own,omitempty"`
	// Foreign says that the target is an address on another host, whatever has that address here.
	Foreign bool `json:"foreign,omitempty"`
	// Probed says that another host sends a probe: that nothing comes here is no reason to send one.
	Probed bool `json:"probed,omitempty"`
}

// Namespace is a network namespace that is known by a path only.
type Namespace struct {
	// Name is what it is called; Path opens it, such as /proc/PID/fd/N.
	Name, Path string
}

// Endpoint is an address and port of a protocol; port 0 is any.
type Endpoint struct {
	Addr  netip.AddrPort `json:"addr"`
	Proto path.Proto     `json:"proto"`
	// Published is set on a host's address with a port that a container publishes.
	Published bool `json:"published,omitempty"`
}

// Flow is one flow with what is concluded about it.
type Flow struct {
	Path    *path.Path
	Verdict Verdict
	// Decided is when.
	Decided time.Time
}

// Result is what a trace came to.
type Result struct {
	Stats Stats
	// Flows counts the flows by outcome.
	Flows map[path.Outcome]int
	// Recorded says what was recorded; nil without Config.Record.
	Recorded *Recorded
}

// withDefaults fills in what was left out and makes the callbacks take turns.
func (c Config) withDefaults() Config {
	if c.Timeout <= 0 {
		c.Timeout = prober.DefaultTimeout
	}
	var one sync.Mutex
	c.OnStart, c.OnFlow = inTurn(&one, c.OnStart), inTurn(&one, c.OnFlow)
	c.OnNote, c.OnProgress = inTurn(&one, c.OnNote), inTurn(&one, c.OnProgress)
	rest := c.OnRest
	c.OnRest = func() {
		if rest != nil {
			one.Lock()
			defer one.Unlock()
			rest()
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// inTurn is fn, called under the lock; nil does nothing.
func inTurn[T any](one *sync.Mutex, fn func(T)) func(T) {
	return func(v T) {
		if fn == nil {
			return
		}
		one.Lock()
		defer one.Unlock()
		fn(v)
	}
}
