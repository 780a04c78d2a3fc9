package recording

import (
	"errors"
	"fmt"
)

// ErrTruncated is the end of a recording without an end mark: the recorder was killed, its disk was
// full, the file was cut, or, with a stream, it goes on elsewhere. What came before it is good.
var ErrTruncated = errors.New("it ends in the middle: whoever recorded it was killed, its disk was full, or it was cut")

// ErrNotRecording is what is found in files that hold something else.
var ErrNotRecording = errors.New("it is no recording of pathtrace")

// FormatError is a recording of a format that is not known here.
type FormatError struct {
	// Format is that of the recording, Version that of the pathtrace which made it; "" if unknown.
	Format  int
	Version string
}

// Error implements error.
func (e *FormatError) Error() string {
	by := ""
	if e.Version != "" {
		by = " by pathtrace " + e.Version
	}
	return fmt.Sprintf("it was made%s in format %d, and this pathtrace reads format %d: use one that is as new",
		by, e.Format, Format)
}

// CorruptError is a recording that was altered or damaged. What came before it is good.
type CorruptError struct {
	// Chunk counts the chunks before it.
	Chunk int
	What  string
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("it is damaged after %d chunks: %s", e.Chunk, e.What)
}
