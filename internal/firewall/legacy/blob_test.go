package legacy

import (
	"bytes"
	"encoding/binary"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/xt"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/netns"
)

// update records the tables anew: go test -run TestRecorded -update, as root.
var update = flag.Bool("update", false, "record the tables in testdata from the running kernel")

// A recording is what the kernel answered: eleven numbers of struct ipt_getinfo, then the entries. It
// comes from a little-endian machine.
func decodeRecording(b []byte) (tableInfo, []byte, bool) {
	var numbers [11]uint32
	if n, err := binary.Decode(b, binary.LittleEndian, &numbers); err != nil {
		return tableInfo{}, nil, false
	} else if b = b[n:]; len(b) > maxTable {
		return tableInfo{}, nil, false
	}
	info := tableInfo{name: "filter", validHooks: numbers[0], size: uint32(len(b))}
	copy(info.hookEntry[:], numbers[1:])
	copy(info.underflow[:], numbers[6:])
	return info, b, true
}

func encodeRecording(info tableInfo, entries []byte) []byte {
	b, _ := binary.Append(nil, binary.LittleEndian, info.validHooks)
	b, _ = binary.Append(b, binary.LittleEndian, info.hookEntry)
	b, _ = binary.Append(b, binary.LittleEndian, info.underflow)
	return append(b, entries...)
}

// recordings are tables of these families, after the rules were loaded.
var recordings = []struct {
	file, table string
	v6          bool
}{
	{"docker-20.10.save", "filter", false}, {"docker-20.10.save", "nat", false},
	{"ufw.save", "filter", false}, {"kube-proxy.save", "nat", false}, {"six.save6", "filter", true},
}

func record(t *testing.T, rulesFile, table string, v6 bool) (tableInfo, []byte) {
	t.Helper()
	labtest.NeedsRoot(t)
	rules, err := os.ReadFile(filepath.Join("testdata", rulesFile))
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var info tableInfo
	var entries []byte
	err = netns.Do(ns, func() error {
		cmd := exec.Command(tool(v6) + "-restore")
		cmd.Stdin, cmd.Stderr = bytes.NewReader(rules), os.Stderr
		if err := cmd.Run(); err != nil {
			return err
		}
		s, err := open(v6)
		if err != nil {
			return err
		}
		defer s.close()
		info, entries, err = s.table(table)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return info, entries
}

// rulesOf are the rules of a table in the text of iptables-save.
func rulesOf(t *testing.T, file, table string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	inside := false
	for _, line := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(line, "*") {
			inside = line == "*"+table
		}
		if _, rule, ok := strings.Cut(line, "-A "); ok && inside {
			rules = append(rules, "-A "+rule)
		}
	}
	return rules
}

// TestRecorded parses what a kernel answered once, so that the parser is also tested without root.
func TestRecorded(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the recordings are of a little-endian machine")
	}
	for _, r := range recordings {
		path := filepath.Join("testdata", r.file+"."+r.table+".blob")
		if *update {
			info, entries := record(t, r.file, r.table, r.v6)
			if err := os.WriteFile(path, encodeRecording(info, entries), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, entries, ok := decodeRecording(b)
		if !ok {
			t.Fatalf("%s is too short", path)
		}
		table, err := parse(r.v6, info, entries, xt.Decoder{})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, c := range table.Chains {
			for _, rule := range c.Rules {
				got[rule.Text()] = true
			}
		}
		want := rulesOf(t, r.file, r.table)
		if len(got) != len(want) || len(want) == 0 {
			t.Errorf("%s: got %d rules, want %d", path, len(got), len(want))
		}
		for _, rule := range want {
			if !got[rule] {
				t.Errorf("%s: %s is missing", path, rule)
			}
		}
	}
}

// TestTruncated cuts a table off: an error, or a part of it, but no panic.
func TestTruncated(t *testing.T) {
	b, err := os.ReadFile("testdata/docker-20.10.save.filter.blob")
	if err != nil {
		t.Fatal(err)
	}
	info, entries, _ := decodeRecording(b)
	failed := 0
	for n := range entries {
		if _, err := parse(false, info, entries[:n], xt.Decoder{}); err != nil {
			failed++
		}
	}
	if failed < len(entries)*9/10 {
		t.Errorf("only %d of %d truncated tables were refused", failed, len(entries))
	}
}

// TestJudge judges packets by rules of a layout of Docker's.
func TestJudge(t *testing.T) {
	b, err := os.ReadFile("testdata/docker-20.10.save.filter.blob")
	if err != nil {
		t.Fatal(err)
	}
	info, entries, _ := decodeRecording(b)
	table, err := parse(false, info, entries, xt.Decoder{})
	if err != nil {
		t.Fatal(err)
	}
	accept := table.Chain("DOCKER").Rules[0]
	packet := func(change func(p *firewall.Packet)) *firewall.Packet {
		p := samplePacket()
		change(p)
		return p
	}
	for _, c := range []struct {
		what     string
		p        *firewall.Packet
		want     firewall.Truth
		unjudged string
	}{
		{"fits", packet(func(*firewall.Packet) {}), firewall.Yes, ""},
		{"other destination", packet(func(p *firewall.Packet) { p.Dst = p.Src }), firewall.No, ""},
		{"from the bridge", packet(func(p *firewall.Packet) { p.In = "br-0123456789ab" }), firewall.No, ""},
		{"device not known", packet(func(p *firewall.Packet) { p.In = "" }), firewall.Maybe, "! -i br-0123456789ab"},
		{"no device", packet(func(p *firewall.Packet) { p.In, p.InIndex = "", 0 }), firewall.Yes, ""},
		{"other protocol", packet(func(p *firewall.Packet) { p.Proto = 17 }), firewall.No, ""},
		{"other port", packet(func(p *firewall.Packet) { p.DstPort = 81 }), firewall.No, ""},
		{"fragment", packet(func(p *firewall.Packet) { p.Fragment = true }), firewall.No, ""},
	} {
		j := accept.Body.Judge(c.p)
		if got := strings.Join(j.Unjudged, "; "); j.Match != c.want || got != c.unjudged {
			t.Errorf("%s: got %v, %q, want %v, %q", c.what, j.Match, got, c.want, c.unjudged)
		}
		if j.Verdict != (firewall.Verdict{Kind: firewall.Accept}) {
			t.Errorf("%s: verdict %+v", c.what, j.Verdict)
		}
	}
}

// FuzzParse parses anything as a table.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.blob")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(strings.Contains(file, "six"), b)
	}
	f.Fuzz(func(t *testing.T, v6 bool, b []byte) {
		info, entries, ok := decodeRecording(b)
		if !ok {
			return
		}
		table, err := parse(v6, info, entries, xt.Decoder{})
		if (table == nil) == (err == nil) {
			t.Fatalf("table %v, error %v", table, err)
		}
		if err != nil {
			return
		}
		for _, c := range table.Chains {
			for _, r := range c.Rules {
				r.Body.Judge(samplePacket())
			}
		}
	})
}

// samplePacket fits the first rule of Docker's chain DOCKER.
func samplePacket() *firewall.Packet {
	return &firewall.Packet{
		Hook: firewall.Forward, In: "eth0", InIndex: 2, Out: "br-0123456789ab", OutIndex: 5,
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("172.18.0.2"),
		Proto: 6, SrcPort: 4000, DstPort: 80,
	}
}
