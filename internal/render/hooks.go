package render

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// HookRow is one row of the table of hooks.
type HookRow struct {
	Type string `json:"type"` // always "hook"
	// Name as in path.Hop.Hook and the statistics.
	Name string `json:"name"`
	// Sees says what the hook sees.
	Sees string `json:"sees"`
	// Kind is the kind of attachment in use ("tp_btf", "netfilter link"), "-" if none.
	Kind string `json:"kind"`
	// Attached tells whether the hook is in use.
	Attached bool `json:"attached"`
	// Status is "attached" or why it is not.
	Status string `json:"status"`
	// Unseen says what is not seen without the hook.
	Unseen string `json:"unseen"`
}

// LimitRow is something that is missing beside hooks, such as a capability.
type LimitRow struct {
	Type   string `json:"type"` // always "limit"
	Name   string `json:"name"`
	Unseen string `json:"unseen"`
}

// maxHookColumn is how wide the columns of names and kinds may get.
const maxHookColumn = 24

// Hooks writes the table of hooks as text, with what is not seen without each, and then what else is
// missing.
func Hooks(o Options, rows []HookRow, limits ...LimitRow) error {
	out := newPrinter(o)
	name, kind, attached := columns("hook"), columns("kind"), 0
	for _, r := range rows {
		name, kind = max(name, columns(r.Name)), max(kind, columns(r.Kind))
		if r.Attached {
			attached++
		}
	}
	name, kind = min(name, maxHookColumn), min(kind, maxHookColumn)
	out.line(span{pad("hook", name) + "  " + pad("kind", kind) + "  what it sees", bold})
	for _, r := range rows {
		writeHook(out, r, name, kind)
	}
	out.line()
	out.line(span{strconv.Itoa(attached) + " of " + path.FormatCount(len(rows), "hook") + " attached", bold})
	for _, l := range limits {
		out.paragraph("no "+l.Name+": not seen are "+l.Unseen, yellow)
	}
	return out.flush()
}

// writeHook writes one row; name and kind are the widths of their columns.
func writeHook(out *printer, r HookRow, name, kind int) {
	st := green
	if !r.Attached {
		st = yellow
	}
	out.paragraph(r.Sees, plain,
		span{pad(shorten(r.Name, name), name) + "  ", plain},
		span{pad(shorten(cmp.Or(r.Kind, "-"), kind), kind) + "  ", st})
	indent := span{strings.Repeat(" ", name+2+kind+2), plain}
	if !r.Attached {
		out.paragraph("not attached: "+cmp.Or(r.Status, "unknown reason"), yellow, indent)
	}
	if r.Unseen != "" {
		out.paragraph("without it: "+r.Unseen, dim, indent)
	}
}
