// Package shell writes the commands that people paste.
package shell

import (
	"iter"
	"strings"
	"unicode/utf8"
)

// Quote returns word as a POSIX shell takes it: in single quotes unless all of it is plain.
func Quote(word string) string {
	special := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-:@%+=,", r)
	}
	if word != "" && !strings.ContainsFunc(word, special) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// IsCommand reports whether text is a command, as opposed to advice: by the programs that remedies use.
func IsCommand(text string) bool {
	program, _, _ := strings.Cut(text, " ")
	switch program {
	case "docker", "dockerd", "podman", "systemctl", "journalctl", "pathtrace",
		"ip", "bridge", "tc", "ss", "nstat", "sysctl", "ethtool", "modprobe", "bpftool", "conntrack",
		"nft", "iptables", "ip6tables", "iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy",
		"iptables-save", "iptables-nft-save", "iptables-legacy-save", "ebtables", "arptables", "ipset", "ufw", "firewall-cmd",
		"nsenter", "ssh", "sudo", "cat", "echo", "grep", "kill", "ls", "mkdir", "rm",
		"ping", "arping", "tcpdump", "traceroute", "curl", "getent":
		return true
	}
	return false
}

// SplitComment parts a command from the comment behind it, which begins with a # outside of quotes.
func SplitComment(text string) (command, comment string) {
	for i := range unquoted(text) {
		if text[i] == '#' && i > 0 && text[i-1] == ' ' {
			return strings.TrimSpace(text[:i]), strings.TrimSpace(text[i+1:])
		}
	}
	return strings.TrimSpace(text), ""
}

// Fold breaks a command into lines of at most width columns that a shell joins again: at spaces outside
// of quotes, with a backslash. A word that is wider keeps its line, but what nft is given is made several
// words.
func Fold(command string, width int) []string {
	var lines []string
	command = splitNFT(command, width-len(`nft '' \`))
	begin, last := 0, -1 // of the line, and the last space at which it could end
	for i := range unquoted(command) {
		if command[i] != ' ' {
			continue
		}
		if last > begin && utf8.RuneCountInString(command[begin:i])+len(` \`) > width {
			lines = append(lines, command[begin:last]+` \`)
			begin = last + 1
		}
		last = i
	}
	if last > begin && utf8.RuneCountInString(command[begin:]) > width {
		lines = append(lines, command[begin:last]+` \`)
		begin = last + 1
	}
	return append(lines, command[begin:])
}

// splitNFT makes several words of at most width bytes of a rule in single quotes at the end of a command:
// nft joins its arguments with spaces.
func splitNFT(command string, width int) string {
	const before = "nft '"
	at := strings.LastIndex(command, before)
	if at < 0 || at > 0 && command[at-1] != ' ' {
		return command
	}
	head, rule := command[:at+len(before)], command[at+len(before):]
	rule, ok := strings.CutSuffix(rule, "'")
	if !ok || len(rule) <= width || strings.Contains(rule, "'") {
		return command
	}
	var words []string
	begin, last := 0, -1
	for i := range unquoted(rule) {
		if rule[i] != ' ' {
			continue
		}
		if last > begin && i-begin > width {
			words = append(words, rule[begin:last])
			begin = last + 1
		}
		last = i
	}
	if last > begin && len(rule)-begin > width {
		words = append(words, rule[begin:last])
		begin = last + 1
	}
	return head + strings.Join(append(words, rule[begin:]), "' '") + "'"
}

// unquoted yields where the bytes are that no quote and no backslash protects.
func unquoted(text string) iter.Seq[int] {
	return func(yield func(int) bool) {
		var quote byte
		for i := 0; i < len(text); i++ {
			switch c := text[i]; {
			case c == quote:
				quote = 0
			case c == '\\' && quote != '\'':
				i++
			case quote != 0:
			case c == '\'' || c == '"':
				quote = c
			case !yield(i):
				return
			}
		}
	}
}
