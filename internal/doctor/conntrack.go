package doctor

import (
	"fmt"
	"strconv"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Shares of the connection tracking table, percent.
const (
	tableNearlyFull = 80
	tableFull       = 98
)

// conntrackChecks: a full table refuses new connections of everybody.
func conntrackChecks(h *Host) []finding {
	if h.NS == nil {
		return nil
	}
	used, err1 := strconv.ParseUint(h.NS.Sysctls["net/netfilter/nf_conntrack_count"], 10, 64)
	limit, err2 := strconv.ParseUint(h.NS.Sysctls["net/netfilter/nf_conntrack_max"], 10, 64)
	if err1 != nil || err2 != nil || limit == 0 || used*100 < limit*tableNearlyFull {
		return nil
	}
	f := finding{Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "conntrack-nearly-full", Cause: path.CauseConntrackFull,
		Summary: fmt.Sprintf("the connection tracking table is %d %% full: beyond that new connections are dropped", used*100/limit),
		Evidence: []string{
			fmt.Sprintf("net.netfilter.nf_conntrack_count is %d, nf_conntrack_max %d", used, limit),
		},
		Remedy: []string{
			enter(h.NS, fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d  # 320 bytes of memory each", 2*limit)),
			enter(h.NS, "conntrack -L | awk '{print $4, $5, $6}' | sort | uniq -c | sort -rn | head  # whose they are"),
		},
		Where: &path.Place{Namespace: h.NS.Name},
	}}
	if used*100 >= limit*tableFull {
		f.Severity = path.SeverityError
		f.Check = "conntrack-full"
		f.Summary = "the connection tracking table is full: new connections are dropped"
	}
	return []finding{f}
}
