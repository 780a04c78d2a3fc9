package render

import (
	"html"
	"io"
	"strings"
)

// TextPage is a writer that makes a page for a browser of the text that is written to it. Close ends the
// page.
type TextPage struct {
	w io.Writer
	h HTML
}

// NewTextPage returns a TextPage that writes to w.
func NewTextPage(w io.Writer) *TextPage { return &TextPage{w: w} }

// begin writes what precedes the text, once.
func (t *TextPage) begin() error {
	if t.h.begun {
		return nil
	}
	p := &page{}
	t.h.head(p, "report")
	p.open("pre", "")
	_, err := t.w.Write(p.Bytes())
	return err
}

// Write implements io.Writer.
func (t *TextPage) Write(b []byte) (int, error) {
	if err := t.begin(); err != nil {
		return 0, err
	}
	lines := strings.Split(string(b), "\n")
	for i, l := range lines {
		lines[i] = html.EscapeString(clean(l))
	}
	if _, err := io.WriteString(t.w, strings.Join(lines, "\n")); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close ends the page; it does not close the writer.
func (t *TextPage) Close() error {
	if err := t.begin(); err != nil {
		return err
	}
	_, err := io.WriteString(t.w, "</pre></body></html>\n")
	return err
}
