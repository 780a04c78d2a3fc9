package diagnose

import (
	"strconv"
	"strings"
)

// counter reports whether one of the counters of a namespace grew during the flow. known is false if
// none of them was read.
func (a *analysis) counter(ns uint32, names ...string) (grew, known bool) {
	counters := a.space(ns).Counters
	for _, name := range names {
		n, ok := counters[name]
		known = known || ok
		grew = grew || n > 0
	}
	return grew, known
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
