package diagnose

import (
	"strconv"
	"strings"
)

// grew returns by how much counters of a namespace are known to have grown during the flow, all together.
func (a *analysis) grew(ns uint32, names ...string) (n uint64) {
	for _, name := range names {
		n += a.space(ns).Counters[name]
	}
	return n
}

// stood reports whether counters of a namespace are known not to have grown during the flow.
func (a *analysis) stood(ns uint32, names ...string) bool {
	return a.space(ns).Counters != nil && a.grew(ns, names...) == 0
}

// sysctl returns a numeric setting of a namespace. ok is false if it was not read.
func (a *analysis) sysctl(ns uint32, name string) (value int64, ok bool) {
	text, ok := a.space(ns).Sysctls[name]
	if !ok {
		return 0, false
	}
	value, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return value, err == nil
}
