// Package legacy reads the tables of iptables-legacy and ip6tables-legacy: those that `iptables -S` of
// a host with iptables-nft does not show, although the kernel asks them.
//
// They are read as iptables-legacy reads them, with getsockopt on a raw socket, but only those that
// the kernel says exist: asking for another one would create it and might load a module. Nothing is
// changed. The tables of ebtables-legacy cannot be seen without asking for them, and are not read.
package legacy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/ipset"
	"github.com/pathtrace/pathtrace/internal/firewall/tape"
	"github.com/pathtrace/pathtrace/internal/firewall/xt"
)

// names are the files in which the kernel lists the tables of the thread's network namespace.
const (
	names4   = "/proc/thread-self/net/ip_tables_names"
	names6   = "/proc/thread-self/net/ip6_tables_names"
	namesARP = "/proc/thread-self/net/arp_tables_names"
)

// Read returns the tables in the network namespace of the calling thread, to which the goroutine must
// be locked. It needs CAP_NET_ADMIN there. The sentences say what could not be read although it is
// there; an error means that nothing could be read. A tape keeps what the kernel answers, or answers in
// its place; nil for none.
func Read(t *tape.Tape) ([]*firewall.Table, []string, error) {
	var tables []*firewall.Table
	var problems []string
	var failed error
	for _, f := range []struct {
		path string
		v6   bool
	}{{names4, false}, {names6, true}} {
		read, sentences, err := readFamily(t, f.v6, f.path)
		if err != nil {
			failed = err
			problems = append(problems, fmt.Sprintf("rules of %s could not be read: %v", tool(f.v6), err))
		}
		tables, problems = append(tables, read...), append(problems, sentences...)
	}
	if failed != nil && len(tables) == 0 {
		return nil, nil, failed
	}
	if names, err := tableNames(t, namesARP); err == nil && len(names) > 0 {
		problems = append(problems, fmt.Sprintf("arptables-legacy has rules for ARP (table %s), "+
			"which pathtrace does not read", strings.Join(names, ", ")))
	}
	return tables, problems, nil
}

// tableNames returns the tables that exist; none if the kernel has no such tables at all.
func tableNames(t *tape.Tape, path string) ([]string, error) {
	text, err := t.Ask(path, func() ([][]byte, error) {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return [][]byte{b}, err
	})
	if err != nil {
		return nil, fmt.Errorf("read names of tables: %w", err)
	}
	return strings.Fields(string(bytes.Join(text, nil))), nil
}

// readFamily reads the tables of one version of IP, whose names are in the file at path.
func readFamily(t *tape.Tape, v6 bool, path string) (tables []*firewall.Table, problems []string, err error) {
	names, err := tableNames(t, path)
	if err != nil || len(names) == 0 {
		return nil, nil, err
	}
	s, err := openTape(t, v6)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	sets := ipset.NewTape(t)
	for _, name := range names {
		info, entries, err := s.taped(t, name)
		if err == nil {
			var t *firewall.Table
			if t, err = parse(v6, info, entries, xt.Decoder{Sets: sets}); err == nil {
				tables = append(tables, t)
				continue
			}
		}
		problems = append(problems, fmt.Sprintf("table %s of %s could not be read: %v", name, tool(v6), err))
	}
	if p := sets.Problem(); p != "" {
		problems = append(problems, p)
	}
	return tables, problems, nil
}

// tool is the program that shows the tables.
func tool(v6 bool) string {
	if v6 {
		return "ip6tables-legacy"
	}
	return "iptables-legacy"
}
