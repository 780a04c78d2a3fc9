// Package tape keeps what a kernel answered to questions about its firewall, so that the same rules
// can be read again later, on another machine. It does no I/O.
package tape

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotRecorded is the answer to a question that was not asked when the tape was made.
var ErrNotRecorded = errors.New("not recorded")

// Tape is a list of questions with their answers. A nil Tape keeps nothing. It is not safe for
// concurrent use.
type Tape struct {
	plays   bool
	answers []answer
}

// answer is what came of one question. Of an error that is no error number only the text is kept.
type answer struct {
	question string
	parts    [][]byte
	errno    uint32
	problem  string
	taken    bool
}

// New returns an empty tape, which keeps what it is asked.
func New() *Tape { return &Tape{} }

// Plays reports whether the tape gives old answers; then the kernel is not to be asked.
func (t *Tape) Plays() bool { return t != nil && t.plays }

// Keeps reports whether the tape keeps new answers.
func (t *Tape) Keeps() bool { return t != nil && !t.plays }

// Ask returns the answer to a question: the recorded one, or that of the kernel, which is kept. The
// question is a text that is the same for the same question. A question asked several times has several
// answers, in that order.
func (t *Tape) Ask(question string, kernel func() ([][]byte, error)) ([][]byte, error) {
	if t.Plays() {
		return t.recall(question)
	}
	parts, err := kernel()
	if t.Keeps() {
		t.keep(question, parts, err)
	}
	return parts, err
}

func (t *Tape) keep(question string, parts [][]byte, err error) {
	a := answer{question: question, parts: parts}
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		a.errno = uint32(errno)
	case err != nil:
		a.problem = err.Error()
	}
	t.answers = append(t.answers, a)
}

func (t *Tape) recall(question string) ([][]byte, error) {
	for i := range t.answers {
		a := &t.answers[i]
		if a.taken || a.question != question {
			continue
		}
		a.taken = true
		switch {
		case a.errno != 0:
			return a.parts, unix.Errno(a.errno)
		case a.problem != "":
			return a.parts, errors.New(a.problem)
		}
		return a.parts, nil
	}
	return nil, fmt.Errorf("%s: %w", question, ErrNotRecorded)
}

// Mark returns the number of answers, for Cut.
func (t *Tape) Mark() int {
	if t == nil {
		return 0
	}
	return len(t.answers)
}

// Cut forgets the answers after a mark: those of an attempt that is made again.
func (t *Tape) Cut(mark int) {
	if t.Keeps() {
		t.answers = t.answers[:mark]
	}
}

// Copy adds the answers of another tape to the questions that begin with one of the prefixes: those of
// a reading which need not be asked again.
func (t *Tape) Copy(from *Tape, prefixes ...string) {
	if !t.Keeps() || from == nil {
		return
	}
	for _, a := range from.answers {
		for _, p := range prefixes {
			if strings.HasPrefix(a.question, p) {
				t.answers = append(t.answers, a)
				break
			}
		}
	}
}

// Append appends the tape's content to b, for Parse.
func (t *Tape) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(t.answers)))
	for _, a := range t.answers {
		b = appendBytes(b, []byte(a.question))
		b = binary.AppendUvarint(b, uint64(a.errno))
		b = appendBytes(b, []byte(a.problem))
		b = binary.AppendUvarint(b, uint64(len(a.parts)))
		for _, p := range a.parts {
			b = appendBytes(b, p)
		}
	}
	return b
}

func appendBytes(b, x []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(x))), x...) }

var errCut = errors.New("recorded rules are cut off")

// Parse returns a tape that plays what Append wrote. It keeps b.
func Parse(b []byte) (*Tape, error) {
	c := cursor{b: b}
	t := &Tape{plays: true}
	for n := c.number(); n > 0 && !c.failed; n-- {
		a := answer{question: string(c.bytes()), errno: uint32(c.number()), problem: string(c.bytes())}
		for n := c.number(); n > 0 && !c.failed; n-- {
			a.parts = append(a.parts, c.bytes())
		}
		t.answers = append(t.answers, a)
	}
	if c.failed || len(c.b) > 0 {
		return nil, errCut
	}
	return t, nil
}

// cursor reads what Append wrote. It fails once.
type cursor struct {
	b      []byte
	failed bool
}

func (c *cursor) number() uint64 {
	n, size := binary.Uvarint(c.b)
	if size <= 0 {
		c.failed, c.b = true, nil
		return 0
	}
	c.b = c.b[size:]
	return n
}

func (c *cursor) bytes() []byte {
	n := c.number()
	if n > uint64(len(c.b)) {
		c.failed, c.b = true, nil
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}
