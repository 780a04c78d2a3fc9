package redact

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"
)

// patterns find what may have to be replaced.
type patterns struct {
	words       *regexp.Regexp // parts of a text that may be addresses or names
	identifiers *regexp.Regexp // of containers and networks
	comments    *regexp.Regexp // what somebody wrote into a rule
}

func newPatterns() patterns {
	return patterns{
		words:       regexp.MustCompile(`[0-9A-Za-z_.:%/@\[\]-]+`),
		identifiers: regexp.MustCompile(`\b[0-9a-f]{12,64}\b`),
		comments:    regexp.MustCompile(`(--comment|--log-prefix|--nflog-prefix|comment|prefix) ("(?:[^"\\]|\\.)*"|[^ "-][^ "]*)`),
	}
}

// Rule replaces what a rule's text has of comments, addresses and names.
func (m *Map) Rule(text string) string {
	text = m.comments.ReplaceAllStringFunc(text, func(s string) string {
		word, value, _ := strings.Cut(s, " ")
		quoted := strings.HasPrefix(value, `"`)
		value = m.Comment(strings.Trim(value, `"`))
		if quoted {
			value = `"` + value + `"`
		}
		return word + " " + value
	})
	return m.Text(text)
}

// Comment replaces what somebody wrote.
func (m *Map) Comment(text string) string {
	if text == "" {
		return ""
	}
	return "comment-" + hex.EncodeToString(m.sum("comment", []byte(text))[:3])
}

// Text replaces the addresses in a text, and the names that were replaced before.
func (m *Map) Text(text string) string {
	return m.words.ReplaceAllStringFunc(text, m.word)
}

// word replaces a word: as a whole, without punctuation at its end, or in its parts.
func (m *Map) word(w string) string {
	if out, ok := m.whole(w); ok {
		return out
	}
	if rest := strings.TrimRight(w, ".:/-"); rest != w && rest != "" {
		return m.word(rest) + w[len(rest):]
	}
	for _, sep := range []string{"/", "-", ":", "@", "%", "."} {
		a, b, ok := strings.Cut(w, sep)
		if !ok || sep == "-" && !m.isRange(a, b) {
			continue
		}
		return m.word(a) + sep + m.word(b)
	}
	return m.identifiers.ReplaceAllStringFunc(w, func(id string) string {
		return hex.EncodeToString(m.sum("identifier", []byte(id)))[:min(len(id), 64)]
	})
}

// isRange reports whether a and b are two addresses.
func (m *Map) isRange(a, b string) bool {
	_, first := netip.ParseAddr(a)
	_, second := netip.ParseAddr(strings.SplitN(b, ":", 2)[0])
	return first == nil && second == nil
}

// whole replaces a word that is a name or an address.
func (m *Map) whole(w string) (string, bool) {
	if w == "" {
		return "", true
	}
	if out, ok := m.names[w]; ok {
		return out, true
	}
	if a, err := netip.ParseAddr(w); err == nil {
		return m.Addr(a).String(), true
	}
	if ap, err := netip.ParseAddrPort(w); err == nil {
		return m.AddrPort(ap).String(), true
	}
	if p, err := netip.ParsePrefix(w); err == nil {
		return m.Prefix(p).String(), true
	}
	if inner, ok := strings.CutPrefix(w, "["); ok {
		if a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err == nil {
			return "[" + m.Addr(a).String() + "]", true
		}
	}
	if _, ok := parseMAC(w); ok {
		return m.MAC(w), true
	}
	return "", false
}
