package diagnose

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Want lists which facts would settle the cause of one flow. Namespaces are inode numbers, each named
// once and in ascending order. The target's own namespaces are not listed unless the flow was seen
// there: the caller knows them and may always add them.
type Want struct {
	Links      []uint32
	Neighbours []uint32
	Listeners  []uint32
	// Counters lists namespaces whose counters' growth is wanted. The first reading has to be taken
	// before the flow; without one, leave Namespace.Counters nil.
	Counters []uint32
	Routes   []RouteQuery
	Sysctls  []SysctlQuery
}

// RouteQuery asks for one route look-up.
type RouteQuery struct {
	NetNS    uint32
	Dst, Src netip.Addr // Src may be invalid
}

// SysctlQuery asks for one setting, such as "net.ipv4.conf.eth0.rp_filter".
type SysctlQuery struct {
	NetNS uint32
	Name  string
}

// Needs says which facts should be read for p before Explain is called.
func Needs(p *path.Path) Want {
	return Want{}
}
