package latency

import (
	"strconv"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// KindName is what people call a kind.
func KindName(k path.SegmentKind) string {
	switch k {
	case path.SegmentSender:
		return "sender's stack"
	case path.SegmentReceiver:
		return "receiver's stack"
	case path.SegmentWakeUp:
		return "asker woken"
	case path.SegmentQdisc:
		return "qdisc queue"
	case path.SegmentBacklog:
		return "backlog queue"
	case path.SegmentOwn:
		return "pathtrace itself"
	case path.SegmentDevice:
		return "stacked devices"
	}
	return string(k)
}

// Duration formats a time for people: tenths of a microsecond below ten, as parts of a path are that
// short, else as everywhere.
func Duration(ns int64) string {
	switch {
	case ns < 0:
		return "-" + Duration(-ns)
	case ns > 0 && ns < 9950:
		return strconv.FormatFloat(float64(ns)/1e3, 'f', 1, 64) + " µs"
	}
	return path.FormatDuration(ns)
}

// QuantileName is "p50", "p99.9", "min" or "max".
func QuantileName(q float64) string {
	switch q {
	case 0:
		return "min"
	case 1:
		return "max"
	}
	return "p" + strconv.FormatFloat(q*100, 'f', -1, 64)
}
