package diagnose

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainQueue: the queueing discipline of a device had no room for the packet.
func explainQueue(a *analysis, e *end) *finding {
	h := e.drop
	if h == nil {
		return nil
	}
	l := a.link(h.NetNS, h.Ifindex)
	if l == nil {
		l = a.linkNamed(h.NetNS, h.Device)
	}
	if l != nil && l.isDown() {
		return nil
	}
	q := a.droppingQueue(h, l)
	switch {
	case isQueueReason(h.Reason), isQueueFunction(h.Function):
		if l == nil && h.Reason == "QDISC_DROP" {
			return nil // the queue of a device that is down drops with the same reason
		}
	case hasReason(h), h.Stage != path.StageQdisc || q == nil || q.Total:
		return nil
	}
	kind, what := "", "queue"
	if q != nil {
		kind, what = q.Kind, q.Kind+" queue"
	} else if i := strings.Index(h.Function, "_enqueue"); i > 0 {
		kind, what = h.Function[:i], h.Function[:i]+" queue"
	}
	f := &finding{
		cause: path.CauseQueueOverlimit, where: whereOf(h, e.direction()),
		says: fmt.Sprintf("%s was dropped in %s: the %s%s had no room for it", a.subject(e), a.place(h), what,
			of(h.Device)),
		remedy: []string{a.command(h, "tc -s qdisc show dev "+quote(h.Device))},
	}
	f.where.Stage = path.StageQdisc
	if q != nil && q.Drops > 0 {
		since := "during the flow"
		if q.Total {
			since = "since it was set up"
		}
		f.evidence = append(f.evidence, fmt.Sprintf("the %s queue%s dropped %s %s", q.Kind, of(h.Device),
			path.FormatCount(q.Drops, "packet"), since))
	}
	if q != nil && q.Parent == "root" || kind == "tbf" || kind == "netem" {
		f.remedy = append(f.remedy, a.command(h, "tc qdisc del dev "+quote(h.Device)+" root")+
			"  # takes the limit away; the kernel sets up its default queue")
	}
	return f
}

// of says " of eth0", or "".
func of(dev string) string {
	if dev == "" {
		return ""
	}
	return " of " + dev
}

// droppingQueue returns the queue of the drop's device that dropped most during the flow, else its
// first one; nil if none is known. Queues that hold nothing do not count.
func (a *analysis) droppingQueue(h *path.Hop, l *Link) *Queue {
	if l == nil {
		return nil
	}
	var best *Queue
	list := a.space(h.NetNS).Queues
	for i := range list {
		q := &list[i]
		switch q.Kind {
		case "noqueue", "noop", "clsact", "ingress":
			continue
		}
		if q.Ifindex == l.Index && (best == nil || q.Drops > best.Drops && q.Total == best.Total || best.Total && !q.Total) {
			best = q
		}
	}
	if best != nil && best.Drops == 0 {
		return nil
	}
	return best
}

// isQueueReason reports whether a drop reason is one of the queueing disciplines' (enum
// skb_drop_reason, QDISC_* and those of fq and cake).
func isQueueReason(reason string) bool {
	for _, prefix := range []string{"QDISC_", "FQ_", "CAKE_"} {
		if strings.HasPrefix(reason, prefix) {
			return true
		}
	}
	return false
}

// isQueueFunction reports whether a function takes packets into a queue: tbf_enqueue, pfifo_enqueue.
// noop_enqueue is that of a device that is down.
func isQueueFunction(name string) bool {
	return strings.HasSuffix(name, "_enqueue") && name != "noop_enqueue"
}
