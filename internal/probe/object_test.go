package probe

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/pathtrace/pathtrace/internal/bpfobj"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// specs returns the programs of every object by name.
func specs(t *testing.T) map[string]*ebpf.ProgramSpec {
	t.Helper()
	all := map[string]*ebpf.ProgramSpec{}
	for family, load := range families() {
		spec, err := load()
		if err != nil {
			t.Fatalf("object %s: %v", family, err)
		}
		for name, p := range spec.Programs {
			if all[name] != nil {
				t.Errorf("program %s is in two objects", name)
			}
			all[name] = p
		}
	}
	return all
}

// TestDropKfunc: nothing names the kernel function any more, and every function of a program is still there.
func TestDropKfunc(t *testing.T) {
	functions := func(instructions asm.Instructions) (names []string) {
		for _, ins := range instructions {
			if f := btf.FuncMetadata(&ins); f != nil {
				names = append(names, f.Name+" "+ins.Symbol())
			}
		}
		return names
	}
	named := func(ins asm.Instruction) bool { return ins.Reference() == rdonlyCast }
	for name, p := range specs(t) {
		before := functions(p.Instructions)
		if !slices.ContainsFunc(p.Instructions, named) {
			t.Errorf("program %s does not name %s", name, rdonlyCast)
		}
		dropKfunc(p.Instructions, rdonlyCast)
		if slices.ContainsFunc(p.Instructions, named) {
			t.Errorf("program %s still names %s", name, rdonlyCast)
		}
		if after := functions(p.Instructions); !slices.Equal(after, before) {
			t.Errorf("program %s has the functions %q, want %q", name, after, before)
		}
	}
}

// TestTableNamesEveryProgram: every program is attached by the table, from the object it is in.
func TestTableNamesEveryProgram(t *testing.T) {
	used := map[string]bool{}
	for _, h := range Table() {
		for _, v := range h.Variants {
			load := families()[v.Family]
			if load == nil {
				load = inlineFamilies()[v.Family]
			}
			if load == nil {
				t.Fatalf("hook %s: object %q is not known", h.Name, v.Family)
			}
			spec, err := load()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range v.Programs {
				used[name] = true
				checkProgram(t, h, v, spec.Programs[name])
			}
		}
	}
	for name := range specs(t) {
		if !used[name] {
			t.Errorf("program %s is in an object and not in the table", name)
		}
	}
}

func checkProgram(t *testing.T, h Hook, v Variant, p *ebpf.ProgramSpec) {
	t.Helper()
	want := map[Kind]ebpf.ProgramType{
		KindTracepoint: ebpf.Tracing, KindFunction: ebpf.Tracing, KindNetfilter: ebpf.Netfilter,
	}[v.Kind]
	switch {
	case p == nil:
		t.Errorf("hook %s: object %s lacks a program of %v", h.Name, v.Family, v.Programs)
	case p.Type != want:
		t.Errorf("program %s: type %s, want %s for %s", p.Name, p.Type, want, v.Kind)
	case v.Kind == KindTracepoint && p.SectionName != "tp_btf/"+h.Name && !v.OnlyQueued:
		t.Errorf("program %s of hook %s is in section %s", p.Name, h.Name, p.SectionName)
	case p.License != "Dual BSD/GPL":
		t.Errorf("program %s: licence %q", p.Name, p.License)
	}
}

// TestTableIsComplete: what `pathtrace hooks` says of each hook.
func TestTableIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, h := range Table() {
		if seen[h.Name] || h.Name == "" || h.Sees == "" || h.Without == "" || len(h.Variants) == 0 {
			t.Errorf("hook %+v: want a name of its own, what it sees, what is not seen without it, and a way to attach", h)
		}
		seen[h.Name] = true
		for _, text := range []string{h.Sees, h.Without} {
			if strings.HasSuffix(text, ".") || strings.ToLower(text[:1]) != text[:1] && !strings.HasPrefix(text, "ICMP") {
				t.Errorf("hook %s: %q is to be the middle of a sentence", h.Name, text)
			}
		}
		for _, v := range h.Variants {
			if v.Fits == nil || len(v.Programs) == 0 || v.Kind == "" {
				t.Errorf("hook %s: variant %+v is incomplete", h.Name, v)
			}
		}
	}
}

// TestYardstick: the empty programs of the benchmark stand on hooks of the table and do nothing.
func TestYardstick(t *testing.T) {
	spec, err := bpfobj.LoadEmpty()
	if err != nil {
		t.Fatal(err)
	}
	programs := specs(t)
	for name, p := range spec.Programs {
		real, ok := strings.CutPrefix(name, "empty_")
		// Of the drop programs, the yardstick stands for all.
		i := slices.IndexFunc(keys(programs), func(n string) bool { return n == real || strings.HasPrefix(n, real+"_") })
		if !ok || i < 0 {
			t.Errorf("program %s measures nothing: want empty_ and the name of a program", name)
		}
		if got, want := len(p.Instructions), 2; got != want {
			t.Errorf("program %s has %d instructions, want %d", name, got, want)
		}
		if programs[name] != nil {
			t.Errorf("program %s is attached by the table", name)
		}
	}
	if len(spec.Maps) != 0 {
		t.Errorf("yardstick: %d maps, want none", len(spec.Maps))
	}
}

func keys(m map[string]*ebpf.ProgramSpec) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// TestSharedMaps: every map of every object is one that Load creates or the object's own data.
func TestSharedMaps(t *testing.T) {
	shared, err := bpfobj.LoadNetfilter()
	if err != nil {
		t.Fatal(err)
	}
	for family, load := range families() {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range spec.Maps {
			first := shared.Maps[name]
			switch {
			case strings.HasPrefix(name, ".") && name != marksMap:
			case first == nil:
				t.Errorf("object %s: map %s would not be shared", family, name)
			case m.Type != first.Type || m.Flags != first.Flags || m.MaxEntries != first.MaxEntries || m.ValueSize != first.ValueSize:
				t.Errorf("object %s: map %s differs from the first object's", family, name)
			}
			if m.Pinning != ebpf.PinNone {
				t.Errorf("object %s: map %s is pinned", family, name)
			}
		}
	}
}

// TestLostSlots: the loss counters have a name for each slot.
func TestLostSlots(t *testing.T) {
	spec, err := bpfobj.LoadNetfilter()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := spec.Maps["lost"].MaxEntries, uint32(lostSlots); got != want {
		t.Errorf("map lost: %d slots, want %d", got, want)
	}
	if got, want := slotName(lostSlots-1), "flow table"; got != want {
		t.Errorf("last slot: %q, want %q", got, want)
	}
	for slot := uint32(1); slot < lostSlots-1; slot++ {
		if name := slotName(slot); name == "" || name == wire.HookUnknown.String() {
			t.Errorf("slot %d has no name", slot)
		}
	}
	if got, want := spec.Maps[marksMap].ValueSize, uint32(sleepsOffset+4); got != want {
		t.Errorf("map marks: %d bytes, want %d", got, want)
	}
	for name, want := range map[string]uint32{"marks": 0, "reader_sleeps": sleepsOffset} {
		if got := spec.Variables[name].Offset; got != want {
			t.Errorf("%s: offset %d, want %d", name, got, want)
		}
	}
}

// TestReadme holds the list of programs in bpf/README.md and the objects together.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../bpf/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| `([a-z_/0-9]+)` \\| (\\S[^|]*) \\| (\\S[^|]*) \\|$").FindAllSubmatch(text, -1)
	got := map[string]string{}
	for _, row := range rows {
		if got[string(row[1])] != "" {
			t.Errorf("program %s stands in the table twice", row[1])
		}
		got[string(row[1])] = string(row[2])
	}
	for name, p := range specs(t) {
		if got[name] != p.SectionName {
			t.Errorf("program %s: the table says %q, the object %q", name, got[name], p.SectionName)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("program %s stands in the table and in no object", name)
	}
}

// TestKeyBytes: a key made by hand is the one that the map is asked with elsewhere.
func TestKeyBytes(t *testing.T) {
	for _, ends := range [][2]string{{"192.0.2.1:40000", "198.51.100.2:443"}, {"[2001:db8::1]:1", "[fd00::2]:65535"}} {
		tuple := wire.Tuple{Src: netip.MustParseAddrPort(ends[0]), Dst: netip.MustParseAddrPort(ends[1]), Proto: wire.ProtoUDP}
		want, err := binary.Append(nil, binary.NativeEndian, tupleKey(tuple))
		if got := keyBytes(tuple); err != nil || !bytes.Equal(got, want) || len(got) != tupleBytes {
			t.Errorf("%v: got %x, want %x (%v)", tuple, got, want, err)
		}
	}
}
