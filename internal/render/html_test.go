package render

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// report writes flows as a page.
func report(t *testing.T, watching bool, flows ...flowCase) string {
	t.Helper()
	var out bytes.Buffer
	h := NewHTML(&out, false, watching)
	must(t, h.Meta(path.Meta{Target: "web:80", Source: "cli", Kernel: "6.1", Version: "test", Hooks: []string{"kfree_skb"}}))
	for _, f := range flows {
		p, v := f.make()
		must(t, h.Flow(p, v))
	}
	must(t, h.Stats(path.Stats{LostEvents: 3, Lost: map[string]uint64{"kfree_skb": 3}, Skipped: []string{"netns <x>"}}))
	return out.String()
}

// checkPage fails if the page is not well-formed, runs or fetches anything; it returns its text.
func checkPage(t *testing.T, page string) string {
	t.Helper()
	var text strings.Builder
	d := xml.NewDecoder(strings.NewReader(page + "</body></html>")) // the only end tags that are left out
	style := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return text.String()
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, page)
		}
		switch e := token.(type) {
		case xml.StartElement:
			style = e.Name.Local == "style"
			switch e.Name.Local {
			case "script", "link", "img", "iframe", "object", "a", "form":
				t.Errorf("element %s in a page that is to be on its own", e.Name.Local)
			}
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "src" || a.Name.Local == "href" {
					t.Errorf("attribute %s in a page that is to be on its own", a.Name.Local)
				}
			}
		case xml.EndElement:
			style = false
		case xml.CharData:
			if style && (bytes.Contains(e, []byte("url(")) || bytes.Contains(e, []byte("@import"))) {
				t.Error("the style fetches something")
			} else if !style {
				text.Write(e)
			}
		}
	}
}

// words returns the words of a text.
func words(s string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(strings.NewReplacer("(", " ", ")", " ", ":", " ", ",", " ").Replace(s)) {
		out[w] = true
	}
	return out
}

// TestHTML: every page is well-formed and says whatever the text says.
func TestHTML(t *testing.T) {
	for _, f := range flowCases() {
		t.Run(f.name, func(t *testing.T) {
			got := words(checkPage(t, report(t, false, f)))
			if f.name == "long-names" {
				return // text cuts and wraps them
			}
			var text bytes.Buffer
			p, v := f.make()
			must(t, NewText(Options{Writer: &text}).Flow(p, v))
			for w := range words(text.String()) {
				if !got[w] && w != "above" && w != "do" && w != `\` && !strings.HasSuffix(w, "…") {
					t.Errorf("%q is in the text and not in the page", w)
				}
			}
		})
	}
}

// TestHTMLWatch: delivered flows are folded, failed ones are not, and the summary counts both.
func TestHTMLWatch(t *testing.T) {
	page := report(t, true, flowCase{"", sameBridge}, flowCase{"", dropForward})
	checkPage(t, page)
	for _, want := range []string{`class="flow good"`, "<details><summary>path</summary>", `class="flow bad"`, "2 clients, 2 flows", "netns &lt;x&gt;"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Count(page, "<summary>path</summary>") != 1 {
		t.Error("the failed flow is folded, too")
	}
}

// TestHTMLHostile: names that others chose are text.
func TestHTMLHostile(t *testing.T) {
	const evil = `"><script>alert('x')</script><!-- & ]]> ` + "\x00\x1b[31m\u202e\xff"
	p, v := dropForward()
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			h.Container, h.Namespace, h.Device, h.Network, h.Function, h.Reason, h.SrcName = evil, evil, evil, evil, evil, evil, evil
		}
	}
	v.Summary, v.Evidence, v.Remedy, v.SrcName, v.Cause = evil, []string{evil}, []string{evil}, evil, path.Cause(evil)
	var out bytes.Buffer
	h := NewHTML(&out, true, true)
	must(t, h.Meta(path.Meta{Target: evil, Source: evil, Kernel: evil, Hooks: []string{evil}}))
	must(t, h.Note(evil))
	must(t, h.Flow(p, v))
	must(t, h.Stats(path.Stats{Warnings: []string{evil}}))
	checkPage(t, out.String())
	if strings.Contains(out.String(), "<script") || strings.ContainsAny(out.String(), "\x00\x1b\u202e") {
		t.Error("a name is more than text")
	}
}

func TestHTMLFull(t *testing.T) {
	p, v := sameBridge()
	if err := NewHTML(shortWriter{}, false, false).Flow(p, v); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

func TestTextPage(t *testing.T) {
	var out bytes.Buffer
	p := NewTextPage(&out)
	for _, text := range []string{"a <b>\n", "half ", "& line\x1b[31m\n"} {
		n, err := p.Write([]byte(text))
		if must(t, err); n != len(text) {
			t.Errorf("%d bytes of %q were taken", n, text)
		}
	}
	must(t, p.Close())
	if got, want := checkPage(t, strings.TrimSuffix(out.String(), "</body></html>\n")), "a <b>\nhalf & line?[31m\n"; !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
	if err := NewTextPage(shortWriter{}).Close(); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

// TestHTMLEarlyNote: what is told before the trace has begun stands below its title.
func TestHTMLEarlyNote(t *testing.T) {
	var out strings.Builder
	h := NewHTML(&out, false, false)
	for _, err := range []error{
		h.Note("no engine"), h.Meta(path.Meta{Source: "client", Target: "web:80"}), h.Note("later"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	page := out.String()
	if !strings.Contains(page, "<title>pathtrace: client → web:80</title>") {
		t.Errorf("the title is not the trace's: %.300s", page)
	}
	title, early, late := strings.Index(page, "<h1>"), strings.Index(page, "no engine"), strings.Index(page, "later")
	if title < 0 || early < title || late < early {
		t.Errorf("title at %d, notes at %d and %d, want this order", title, early, late)
	}
}
