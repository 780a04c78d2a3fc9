package kernel

import (
	"bufio"
	"io"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// symbolTable maps text addresses to function names.
type symbolTable struct {
	addrs []uint64
	names []string
}

// Symbol returns the kernel function that contains addr, without offset, or "" if it is not known
// (no such function, or addresses are hidden from this process).
func (f *Facts) Symbol(addr uint64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.symbols == nil {
		f.symbols = loadSymbols()
	}
	return f.symbols.find(addr)
}

// HasSymbol reports whether the kernel has a function of that name, if this process may know addresses.
func (f *Facts) HasSymbol(name string) bool {
	f.WarmSymbols()
	return slices.Contains(f.symbols.names, name)
}

// WarmSymbols reads the symbol table, so that the first Symbol does not pay for it.
func (f *Facts) WarmSymbols() { f.Symbol(0) }

func loadSymbols() *symbolTable {
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		return &symbolTable{}
	}
	defer file.Close()
	return parseSymbols(file)
}

// parseSymbols reads the text symbols of /proc/kallsyms: "address type name [module]".
func parseSymbols(r io.Reader) *symbolTable {
	t := &symbolTable{}
	sorted := true
	for s := bufio.NewScanner(r); s.Scan(); {
		addr, name, ok := parseSymbol(s.Bytes())
		if !ok {
			continue
		}
		if n := len(t.addrs); n > 0 && addr < t.addrs[n-1] {
			sorted = false
		}
		t.addrs = append(t.addrs, addr)
		t.names = append(t.names, name)
	}
	if !sorted {
		sort.Stable(t)
	}
	t.addrs, t.names = slices.Clip(t.addrs), slices.Clip(t.names)
	return t
}

func parseSymbol(line []byte) (uint64, string, bool) {
	text := string(line)
	hex, rest, ok := strings.Cut(text, " ")
	if !ok || len(rest) < 3 || (rest[0] != 't' && rest[0] != 'T') {
		return 0, "", false
	}
	addr, err := strconv.ParseUint(hex, 16, 64)
	if err != nil || addr == 0 {
		return 0, "", false
	}
	name, _, _ := strings.Cut(rest[2:], "\t")
	// Compilers append their transformations to the name: tcp_v4_rcv.part.0, foo.constprop.0.
	name, _, _ = strings.Cut(name, ".")
	return addr, strings.Clone(name), true
}

func (t *symbolTable) find(addr uint64) string {
	i := sort.Search(len(t.addrs), func(i int) bool { return t.addrs[i] > addr })
	if i == 0 || addr == 0 {
		return ""
	}
	return t.names[i-1]
}

func (t *symbolTable) Len() int           { return len(t.addrs) }
func (t *symbolTable) Less(i, j int) bool { return t.addrs[i] < t.addrs[j] }
func (t *symbolTable) Swap(i, j int) {
	t.addrs[i], t.addrs[j] = t.addrs[j], t.addrs[i]
	t.names[i], t.names[j] = t.names[j], t.names[i]
}
