package kernel

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"os"
	"slices"
	"sort"
)

// symbolTable maps text addresses to function names. The names lie in one piece, as there are some
// hundred thousand of them and most are never asked for.
type symbolTable struct {
	symbols []symbol
	names   []byte
}

// symbol is one function: its address, and where its name lies.
type symbol struct {
	addr       uint64
	start, end uint32
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

// HasSymbol reports whether the kernel has a function of that name. Names, unlike addresses, are not
// hidden from anybody.
func (f *Facts) HasSymbol(name string) bool {
	f.WarmSymbols()
	return f.symbols.has(name)
}

// hidesAddresses reports whether this process sees no function's address, only names (kernel.kptr_restrict;
// kallsyms_show_value, kernel/kallsyms.c).
func (f *Facts) hidesAddresses() bool {
	f.WarmSymbols()
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.symbols.symbols)
	return n == 0 || f.symbols.symbols[n-1].addr == 0 // they are sorted
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
	t := &symbolTable{symbols: make([]symbol, 0, 1<<16), names: make([]byte, 0, 2<<20)}
	byAddress := func(a, b symbol) int { return cmp.Compare(a.addr, b.addr) }
	for lines := bufio.NewScanner(r); lines.Scan(); {
		addr, name, ok := parseSymbol(lines.Bytes())
		if !ok {
			continue
		}
		start := uint32(len(t.names))
		t.names = append(t.names, name...)
		t.symbols = append(t.symbols, symbol{addr, start, uint32(len(t.names))})
	}
	if !slices.IsSortedFunc(t.symbols, byAddress) {
		slices.SortStableFunc(t.symbols, byAddress)
	}
	t.symbols, t.names = slices.Clip(t.symbols), slices.Clip(t.names)
	return t
}

// parseSymbol returns the address of a function, 0 if it is hidden, and its name, which is part of line.
func parseSymbol(line []byte) (addr uint64, name []byte, ok bool) {
	hex, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(rest) < 3 || (rest[0] != 't' && rest[0] != 'T') {
		return 0, nil, false
	}
	if addr, ok = parseHex(hex); !ok {
		return 0, nil, false
	}
	name, _, _ = bytes.Cut(rest[2:], []byte("\t"))
	// Compilers append their transformations to the name: tcp_v4_rcv.part.0, foo.constprop.0.
	name, _, _ = bytes.Cut(name, []byte("."))
	return addr, name, true
}

// parseHex is strconv.ParseUint for the digits of an address, without making a string of them.
func parseHex(digits []byte) (n uint64, ok bool) {
	for _, c := range digits {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, 0 < len(digits) && len(digits) <= 16
}

func (t *symbolTable) name(i int) []byte { return t.names[t.symbols[i].start:t.symbols[i].end] }

func (t *symbolTable) find(addr uint64) string {
	i := sort.Search(len(t.symbols), func(i int) bool { return t.symbols[i].addr > addr })
	if i == 0 || t.symbols[i-1].addr == 0 {
		return ""
	}
	return string(t.name(i - 1))
}

func (t *symbolTable) has(name string) bool {
	for i := range t.symbols {
		if string(t.name(i)) == name {
			return true
		}
	}
	return false
}
