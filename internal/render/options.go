package render

import "io"

// Limits of the width of text, columns.
const (
	// MaxWidth is the width that text never exceeds, whatever the terminal offers, and the default.
	MaxWidth = 100
	minWidth = 60
)

// Options say how text is written.
type Options struct {
	// Writer receives the text; each call of a renderer makes at most one Write.
	Writer io.Writer
	// Color adds ANSI escape codes. Without it the text holds no control character but newlines.
	Color bool
	// Verbose shows every hook instead of one line per step.
	Verbose bool
	// AllPackets shows every packet instead of those that open, close or reset the flow or were
	// dropped.
	AllPackets bool
	// Width is the number of columns, 60 to MaxWidth; 0 means MaxWidth, other values are clamped.
	Width int
}

// width returns the effective width of o.
func (o Options) width() int {
	switch {
	case o.Width <= 0 || o.Width > MaxWidth:
		return MaxWidth
	case o.Width < minWidth:
		return minWidth
	}
	return o.Width
}
