package render

import (
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Examined is what doctor looked at.
type Examined struct {
	Containers, Networks, Namespaces int
	// WallNS is how long it took.
	WallNS int64
	// Skipped says what could not be read, and why.
	Skipped []string
}

// Findings writes what doctor found, grouped by severity, and a count as the last line. The findings
// are worst first.
func Findings(o Options, list []path.Finding, e Examined) error {
	out := newPrinter(o)
	var last path.Severity
	for _, f := range list {
		if f.Severity != last {
			out.line(span{heading(f.Severity), bold})
		}
		last = f.Severity
		writeFinding(out, f)
	}
	for _, s := range e.Skipped {
		labelled(out, "skipped", yellow, s)
	}
	if len(list)+len(e.Skipped) > 0 {
		out.line()
	}
	out.paragraph(findingCount(list)+"; looked at "+path.FormatCount(e.Containers, "container")+", "+path.FormatCount(e.Networks, "network")+
		" and "+path.FormatCount(e.Namespaces, "network namespace")+" in "+path.FormatDuration(e.WallNS), bold)
	return out.flush()
}

func heading(s path.Severity) string {
	switch s {
	case path.SeverityError:
		return "errors: broken now"
	case path.SeverityWarning:
		return "warnings: will break, or exposed"
	}
	return "notes"
}

func writeFinding(out *printer, f path.Finding) {
	where := ""
	if f.Where != nil && f.Where.Host != "" {
		where = f.Where.Host + ": "
	}
	out.paragraph(where+f.Summary, severityStyle(f.Severity), span{"  ", plain})
	if f.Where != nil && f.Where.Rule != nil {
		finer(out, "rule", plain, ruleText(f.Where.Rule))
	}
	for _, text := range f.Evidence {
		finer(out, "because", plain, text)
	}
	for _, text := range f.Remedy {
		out.remedy(text, finerLabel("do:"))
	}
	more := "docs/doctor.md#" + f.Check
	if f.Cause != "" {
		more += ", docs/causes/" + string(f.Cause) + ".md"
	}
	finer(out, "more:", cyan, more)
}

// finer is labelled, one step further in.
func finer(out *printer, name string, st style, text string) {
	out.paragraph(text, st, finerLabel(name))
}

func finerLabel(name string) span { return span{"    " + pad(name, labelWidth) + "  ", dim} }

func severityStyle(s path.Severity) style {
	switch s {
	case path.SeverityError:
		return red
	case path.SeverityWarning:
		return yellow
	}
	return plain
}

// findingCount is "2 errors, 1 warning".
func findingCount(list []path.Finding) string {
	var parts []string
	for _, s := range []path.Severity{path.SeverityError, path.SeverityWarning, path.SeverityNote} {
		n := 0
		for _, f := range list {
			if f.Severity == s {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, path.FormatCount(n, string(s)))
		}
	}
	if len(parts) == 0 {
		return "nothing found"
	}
	return strings.Join(parts, ", ")
}
