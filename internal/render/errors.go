package render

import (
	"fmt"
	"io"
	"strings"
)

// Error writes err to w as one line, "pathtrace: …", without control characters. It is not
// wrapped: the line is for terminals, logs and grep alike. A nil err writes nothing.
func Error(w io.Writer, err error) {
	if err == nil {
		return
	}
	// An error about standard error has nowhere to go.
	_, _ = fmt.Fprintf(w, "pathtrace: %s\n", sentence(err.Error()))
}

// Note writes a message for people, such as "names come from namespaces only", in the same form.
func Note(w io.Writer, text string) {
	_, _ = fmt.Fprintf(w, "pathtrace: %s\n", sentence(text))
}

// Brief is text in one line of at most width columns.
func Brief(text string, width int) string { return shortenEnd(sentence(text), width) }

// sentence joins the lines of s, as errors.Join makes them.
func sentence(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(clean(lines[i]))
	}
	return strings.Join(lines, "; ")
}
