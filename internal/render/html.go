package render

import (
	"bytes"
	_ "embed" // for the style sheet
	"html"
	"io"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

//go:embed report.css
var reportStyle string

// HTML writes a report as one page for a browser: the same as Text, and every hook besides. The page has
// no script and fetches nothing. Each flow is written as it is decided; the page is readable up to there
// whatever happens then, because the end tags of HTML's outermost elements may be left out. It is not
// safe for concurrent use.
type HTML struct {
	w        io.Writer
	all      bool
	watching bool
	begun    bool
	early    []string // notes from before the head
	tally    *tally
}

// NewHTML returns an HTML that writes to w; all shows every packet, as Packets selects them. watching
// folds the flows that were delivered and adds a summary.
func NewHTML(w io.Writer, all, watching bool) *HTML {
	return &HTML{w: w, all: all, watching: watching, tally: newTally()}
}

// page collects markup. Text is always escaped, and free of control characters.
type page struct{ bytes.Buffer }

// open begins an element; class may be empty.
func (p *page) open(tag, class string) {
	p.WriteString("<" + tag)
	if class != "" {
		p.WriteString(` class="` + html.EscapeString(class) + `"`)
	}
	p.WriteString(">")
}

func (p *page) end(tag string) { p.WriteString("</" + tag + ">\n") }

func (p *page) text(s string) { p.WriteString(html.EscapeString(clean(s))) }

// element adds an element with text.
func (p *page) element(tag, class, text string) {
	p.open(tag, class)
	p.text(text)
	p.end(tag)
}

// item adds a term with its description; nothing if that is empty.
func (p *page) item(term, class, text string) {
	if text != "" {
		p.element("dt", "", term)
		p.element("dd", class, text)
	}
}

// lines adds text in lines as it is.
func (p *page) lines(text string) {
	p.open("pre", "")
	for _, l := range strings.Split(strings.Trim(text, "\n"), "\n") {
		p.text(l)
		p.WriteByte('\n')
	}
	p.end("pre")
}

// write writes what was collected at once.
func (h *HTML) write(p *page) error {
	_, err := h.w.Write(p.Bytes())
	return err
}

// head begins the page.
func (h *HTML) head(p *page, title string) {
	if h.begun {
		return
	}
	h.begun = true
	p.WriteString(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
`)
	p.element("title", "", "pathtrace: "+title)
	p.WriteString("<style>\n" + reportStyle + "</style></head><body>\n")
}

// Meta begins the report of one trace.
func (h *HTML) Meta(m path.Meta) error {
	p := &page{}
	title := "traffic to " + m.Target
	if m.Source != "" {
		title = m.Source + " → " + m.Target
	}
	h.head(p, title)
	p.open("header", "")
	p.element("h1", "", title)
	p.open("dl", "")
	p.item("started", "", m.Started)
	p.item("kernel", "", m.Kernel)
	p.item("pathtrace", "", m.Version)
	p.item("hooks", "", strings.Join(m.Hooks, ", "))
	p.end("dl")
	p.end("header")
	h.notes(p)
	return h.write(p)
}

// notes writes what was told before there was a title.
func (h *HTML) notes(p *page) {
	for _, text := range h.early {
		p.element("p", "yellow", text)
	}
	h.early = nil
}

// Flow writes one flow: its ends, the verdict, its path. p may be nil if nothing of it was seen.
func (h *HTML) Flow(f *path.Path, v path.Verdict) error {
	p := &page{}
	h.head(p, "flow")
	e := endsOf(f, v)
	h.tally.add(e, v)
	folded := h.watching && v.Outcome == path.Delivered && len(v.Warnings) == 0
	p.open("section", "flow "+outcomeClass(v.Outcome))
	title := strings.TrimPrefix(e.client()+" → "+e.target(), " → ")
	p.element("h2", "", title)
	p.element("small", "addr", " "+strings.TrimSpace(string(e.proto)+"  "+e.addrs()))
	htmlVerdict(p, v)
	htmlLosses(p, f, v)
	if f != nil && len(f.Packets) > 0 {
		if folded {
			p.WriteString("<details>")
			p.element("summary", "", "path")
		}
		htmlPath(p, f, h.all)
		if folded {
			p.end("details")
		}
	}
	p.end("section")
	return h.write(p)
}

// Note adds a message for people.
func (h *HTML) Note(text string) error {
	h.early = append(h.early, text)
	if !h.begun {
		return nil
	}
	p := &page{}
	h.notes(p)
	return h.write(p)
}

// Stats ends the report of one trace: the summary, what it lost, what it cost.
func (h *HTML) Stats(s path.Stats) error {
	p, text := &page{}, &bytes.Buffer{}
	h.head(p, "no flow")
	h.notes(p)
	out := newPrinter(Options{Writer: text})
	if h.watching {
		h.tally.write(out, s.WallNS)
	}
	writeStats(out, s)
	if err := out.flush(); err != nil {
		return err
	}
	p.open("footer", "")
	if text.Len() > 0 {
		p.lines(text.String())
	}
	text.Reset()
	writeCost(out, s)
	if err := out.flush(); err != nil {
		return err
	}
	p.open("details", "dim")
	p.element("summary", "", "what the trace saw and cost")
	p.lines(text.String())
	p.end("details")
	p.end("footer")
	h.tally = newTally()
	return h.write(p)
}
