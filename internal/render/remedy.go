package render

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/shell"
)

// remedy adds one step of what to do, after prefix. Of a command that is too wide, the lines are such
// that a shell joins them when they are pasted; its comment goes below.
func (p *printer) remedy(text string, prefix span) {
	if !shell.IsCommand(text) {
		p.paragraph(text, green, prefix)
		return
	}
	indent := columns(prefix.text)
	room := max(p.width-indent, p.width/4)
	command, comment := shell.SplitComment(clean(text))
	if both := command + " # " + comment; comment != "" && columns(both) <= room {
		command, comment = both, ""
	}
	lines := []string{command}
	if columns(command) > room {
		lines = shell.Fold(command, room)
	}
	if comment != "" {
		for _, l := range wrap(comment, room-len("# ")) {
			lines = append(lines, "# "+l)
		}
	}
	for _, l := range lines {
		p.put(prefix.text, prefix.style)
		p.put(l, green)
		p.buf.WriteByte('\n')
		prefix = span{strings.Repeat(" ", indent), plain}
	}
}
