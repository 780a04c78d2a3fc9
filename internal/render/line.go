package render

import (
	"bytes"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// style is a colour of text; plain needs no escape code.
type style uint8

const (
	plain style = iota
	bold
	dim
	red
	green
	yellow
	cyan
)

// code returns the ANSI "select graphic rendition" sequence of s (ECMA-48), or "".
func (s style) code() string {
	switch s {
	case bold:
		return "\x1b[1m"
	case dim:
		return "\x1b[2m"
	case red:
		return "\x1b[1;31m"
	case green:
		return "\x1b[32m"
	case yellow:
		return "\x1b[33m"
	case cyan:
		return "\x1b[36m"
	}
	return ""
}

const styleEnd = "\x1b[0m"

// span is a piece of a line in one style.
type span struct {
	text  string
	style style
}

// printer collects lines of limited width and writes them at once, so that a reader of a pipe
// never sees half a flow.
type printer struct {
	w     io.Writer
	color bool
	width int
	buf   bytes.Buffer
}

func newPrinter(o Options) *printer {
	return &printer{w: o.Writer, color: o.Color, width: o.width()}
}

// flush writes what was collected in one Write.
func (p *printer) flush() error {
	if p.buf.Len() == 0 {
		return nil
	}
	_, err := p.w.Write(p.buf.Bytes())
	p.buf.Reset()
	return err
}

// line adds one line; what exceeds the width is cut with an ellipsis.
func (p *printer) line(spans ...span) {
	room := p.width
	for _, s := range spans {
		text := shortenEnd(clean(s.text), room)
		room -= columns(text)
		p.put(text, s.style)
		if room <= 0 {
			break
		}
	}
	p.buf.WriteByte('\n')
}

// paragraph adds text after prefix and wraps it; further lines are indented by prefix's width.
func (p *printer) paragraph(text string, st style, prefix ...span) {
	indent := 0
	for _, s := range prefix {
		indent += columns(s.text)
	}
	room := p.width - indent
	if room < p.width/4 {
		p.line(prefix...)
		indent = p.width / 4
		prefix = []span{{text: strings.Repeat(" ", indent)}}
		room = p.width - indent
	}
	for i, l := range wrap(clean(text), room) {
		if i > 0 {
			prefix = []span{{text: strings.Repeat(" ", indent)}}
		}
		p.line(append(prefix[:len(prefix):len(prefix)], span{l, st})...)
	}
}

// put adds text in a style; escape codes never enclose blank text.
func (p *printer) put(text string, st style) {
	if !p.color || st == plain || strings.TrimSpace(text) == "" {
		p.buf.WriteString(text)
		return
	}
	p.buf.WriteString(st.code())
	p.buf.WriteString(text)
	p.buf.WriteString(styleEnd)
}

// columns counts the columns of s: its runes.
func columns(s string) int { return utf8.RuneCountInString(s) }

// clean replaces what could steer a terminal or break a line: names come from containers.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r) && r != ' ':
			return '?'
		}
		return r
	}, s)
}

// wrap breaks s at spaces into lines of at most width columns; longer words are cut.
func wrap(s string, width int) []string {
	var lines []string
	var line string
	for _, word := range strings.Fields(s) {
		if line != "" && columns(line)+1+columns(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for columns(word) > width {
			head, tail := cut(word, width)
			lines = append(lines, head)
			word = tail
		}
		line = word
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}

// cut splits s after n columns.
func cut(s string, n int) (head, tail string) {
	for i := range s {
		if n == 0 {
			return s[:i], s[i:]
		}
		n--
	}
	return s, ""
}

// shortenEnd cuts s to n columns, the last of which is an ellipsis if something was cut.
func shortenEnd(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	if n <= 0 {
		return ""
	}
	head, _ := cut(s, n-1)
	return head + "…"
}

// shorten cuts s to n columns by replacing its middle with an ellipsis: the start names the
// project, the end tells its members apart.
func shorten(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	if n < 3 {
		return shortenEnd(s, n)
	}
	keep := (n - 1) / 2
	head, _ := cut(s, n-1-keep)
	_, tail := cut(s, columns(s)-keep)
	return head + "…" + tail
}

// pad fills s with spaces to n columns; longer text is kept.
func pad(s string, n int) string {
	if m := n - columns(s); m > 0 {
		return s + strings.Repeat(" ", m)
	}
	return s
}

// padLeft right-aligns s in n columns.
func padLeft(s string, n int) string {
	if m := n - columns(s); m > 0 {
		return strings.Repeat(" ", m) + s
	}
	return s
}
