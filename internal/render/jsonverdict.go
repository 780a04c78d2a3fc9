package render

import (
	"strconv"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// appendVerdict appends a verdict as a line of JSON, as hopLines does with a hop. What few verdicts have is
// left to encoding/json.
func appendVerdict(b []byte, v *path.Verdict) []byte {
	b = append(b, `{"type":"verdict","flow":`...)
	b = strconv.AppendInt(b, int64(v.Flow), 10)
	b = appendText(b, `,"outcome":`, string(v.Outcome))
	b = appendSet(b, `,"cause":`, string(v.Cause))
	b = appendText(b, `,"summary":`, v.Summary)
	if v.Where != nil {
		b = appendAny(b, `,"where":`, v.Where)
	}
	b = appendList(b, `,"evidence":`, v.Evidence, appendString)
	b = appendList(b, `,"remedy":`, v.Remedy, appendString)
	b = appendLatency(b, v.LatencyNS)
	b = appendList(b, `,"nat":`, v.NAT, appendTranslation)
	b = appendList(b, `,"warnings":`, v.Warnings, appendWarning)
	b = strconv.AppendBool(append(b, `,"complete":`...), v.Complete)
	b = strconv.AppendUint(append(b, `,"lost_events":`...), v.LostEvents, 10)
	b = appendSet(b, `,"proto":`, string(v.Proto))
	b = appendSet(b, `,"src":`, v.Src)
	b = appendSet(b, `,"dst":`, v.Dst)
	b = appendSet(b, `,"src_name":`, v.SrcName)
	b = appendSet(b, `,"dst_name":`, v.DstName)
	if len(v.Hosts) > 0 {
		b = appendAny(b, `,"hosts":`, v.Hosts)
	}
	return append(b, '}', '\n')
}

func appendLatency(b []byte, l *path.Latency) []byte {
	if l == nil {
		return b
	}
	b = append(b, `,"latency_ns":`...)
	from := len(b)
	b = appendNumber(b, `,"request":`, l.Request)
	b = appendNumber(b, `,"reply":`, l.Reply)
	b = appendNumber(b, `,"round_trip":`, l.RoundTrip)
	return braced(b, from)
}

// braced makes an object of fields that each begin with a comma.
func braced(b []byte, from int) []byte {
	if len(b) == from {
		return append(b, '{', '}')
	}
	b[from] = '{'
	return append(b, '}')
}

func appendTranslation(b []byte, t *path.Translation) []byte {
	b = appendText(b, `{"kind":`, string(t.Kind))
	b = appendText(b, `,"direction":`, string(t.Direction))
	b = appendText(b, `,"from":`, t.From)
	b = appendText(b, `,"to":`, t.To)
	b = appendSet(b, `,"namespace":`, t.Namespace)
	b = appendNumber(b, `,"netns":`, int64(t.NetNS))
	b = appendText(b, `,"stage":`, string(t.Stage))
	b = appendSet(b, `,"by":`, t.By)
	if t.Rule != nil {
		b = appendRule(b, `,"rule":`, t.Rule)
	}
	return append(b, '}')
}

func appendRule(b []byte, key string, r *path.Rule) []byte {
	b = appendText(append(b, key...), `{"family":`, r.Family)
	b = appendText(b, `,"table":`, r.Table)
	b = appendText(b, `,"chain":`, r.Chain)
	b = strconv.AppendInt(append(b, `,"number":`...), int64(r.Number), 10)
	b = appendHandle(b, r.Handle)
	b = appendText(b, `,"text":`, r.Text)
	b = appendText(b, `,"owner":`, r.Owner)
	return append(b, '}')
}

func appendHandle(b []byte, handle uint64) []byte {
	if handle == 0 {
		return b
	}
	return strconv.AppendUint(append(b, `,"handle":`...), handle, 10)
}

func appendWarning(b []byte, w *path.Warning) []byte {
	b = appendText(b, `{"cause":`, string(w.Cause))
	b = appendText(b, `,"summary":`, w.Summary)
	return append(b, '}')
}

func appendString(b []byte, s *string) []byte { return appendText(b, "", *s) }

// appendList appends a field with one value for each of a list, unless that is empty.
func appendList[T any](b []byte, key string, list []T, one func([]byte, *T) []byte) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, key...)
	from := len(b)
	for i := range list {
		b = one(append(b, ','), &list[i])
	}
	b[from] = '['
	return append(b, ']')
}
