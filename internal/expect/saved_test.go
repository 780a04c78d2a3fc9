package expect

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// condition is one match of a rule in the dumps under testdata.
type condition struct {
	key, value string
	not        bool
}

// body judges what Docker's rules match on, independently of the package under test.
type body struct {
	conditions []condition
	verdict    firewall.Verdict
	// vmap holds the verdicts of a verdict map by device, for a rule that is nothing else.
	vmap    map[string]string
	vmapKey string
}

func (b *body) Verdicts() []firewall.Verdict { return []firewall.Verdict{b.verdict} }

func (b *body) Judge(p *firewall.Packet) firewall.Judgement {
	if b.vmap != nil {
		device := p.In
		if b.vmapKey == "oifname" {
			device = p.Out
		}
		to, ok := b.vmap[device]
		return firewall.Judgement{Match: firewall.Of(ok), Verdict: firewall.Verdict{Kind: firewall.Jump, Chain: to}}
	}
	out := firewall.Judgement{Match: firewall.Yes, Verdict: b.verdict}
	for _, c := range b.conditions {
		t := c.judge(p)
		if c.not {
			t = t.Not()
		}
		out.Match = out.Match.And(t)
	}
	return out
}

func (c condition) judge(p *firewall.Packet) firewall.Truth {
	within := func(a netip.Addr) firewall.Truth {
		pre, err := netip.ParsePrefix(c.value)
		if err != nil {
			addr := netip.MustParseAddr(c.value)
			pre = netip.PrefixFrom(addr, addr.BitLen())
		}
		return firewall.Of(pre.Contains(a))
	}
	switch c.key {
	case "-s":
		return within(p.Src)
	case "-d":
		return within(p.Dst)
	case "-i":
		return firewall.Of(slices.Contains(strings.Split(c.value, ","), p.In))
	case "-o":
		return firewall.Of(p.Out == c.value)
	case "-p":
		return firewall.Of(protoNumber(c.value) == p.Proto)
	case "--dport":
		return firewall.Of(c.value == strconv.Itoa(int(p.DstPort)))
	case "--dst-type":
		return p.AddrType(p.Dst, c.value, "")
	case "--src-type":
		return p.AddrType(p.Src, c.value, "")
	case "--ctstate":
		return firewall.Of(slices.Contains(strings.Split(strings.ToUpper(c.value), ","), string(p.CT.State)))
	}
	return firewall.Maybe
}

func verdictOf(target, detail string) firewall.Verdict {
	switch target {
	case "ACCEPT":
		return firewall.Verdict{Kind: firewall.Accept}
	case "DROP":
		return firewall.Verdict{Kind: firewall.Drop}
	case "RETURN":
		return firewall.Verdict{Kind: firewall.Return}
	case "MASQUERADE":
		return firewall.Verdict{Kind: firewall.Masquerade}
	case "SNAT":
		return firewall.Verdict{Kind: firewall.SNAT, Detail: detail}
	case "DNAT":
		return firewall.Verdict{Kind: firewall.DNAT, Detail: detail}
	}
	return firewall.Verdict{Kind: firewall.Jump, Chain: target}
}

// saved reads what iptables-save and `nft list table` print of Docker's rules.
func saved(t *testing.T, files ...string) *firewall.Ruleset {
	t.Helper()
	rs := &firewall.Ruleset{}
	for _, name := range files {
		if !filepath.IsAbs(name) {
			name = filepath.Join("testdata", name)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(text), "table ") {
			rs.Tables = append(rs.Tables, parseNFT(t, string(text)))
			continue
		}
		rs.Tables = append(rs.Tables, parseSaved(t, string(text), strings.Contains(name, "ip6"))...)
	}
	return rs
}

func parseSaved(t *testing.T, text string, v6 bool) []*firewall.Table {
	t.Helper()
	var out []*firewall.Table
	var table *firewall.Table
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "COMMIT" || f[0] == "#":
		case f[0][0] == '*':
			table = &firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP, Name: f[0][1:]}
			if v6 {
				table.Family = firewall.FamilyIP6
			}
			out = append(out, table)
		case f[0][0] == ':':
			table.Chains = append(table.Chains, &firewall.Chain{Table: table, Name: f[0][1:]})
		default:
			addRule(table.Chain(f[1]), strings.TrimSpace(line), parseRule(t, f[2:]))
		}
	}
	return out
}

func addRule(c *firewall.Chain, text string, b *body) {
	c.Rules = append(c.Rules, &firewall.Rule{Chain: c, Number: len(c.Rules) + 1, Written: text, Body: b})
}

func parseRule(t *testing.T, f []string) *body {
	t.Helper()
	b := &body{}
	not := false
	for i := 0; i < len(f); i++ {
		switch f[i] {
		case "!":
			not = true
			continue
		case "-m":
			i++
		case "-j":
			detail := ""
			if i+3 < len(f) && strings.HasPrefix(f[i+2], "--to-") {
				detail = f[i+3]
			}
			b.verdict = verdictOf(f[i+1], detail)
			return b
		default:
			b.conditions = append(b.conditions, condition{key: f[i], value: f[i+1], not: not})
			i++
		}
		not = false
	}
	t.Fatalf("no target in %q", f)
	return nil
}

// parseNFT reads a table of nft as far as Docker's rules go.
func parseNFT(t *testing.T, text string) *firewall.Table {
	t.Helper()
	lines := strings.Split(text, "\n")
	head := strings.Fields(lines[0])
	table := &firewall.Table{Backend: firewall.NFTables, Family: firewall.Family(head[1]), Name: head[2]}
	maps := map[string]map[string]string{}
	var chain *firewall.Chain
	current := ""
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "}" || f[0] == "type":
		case f[0] == "map":
			current, chain = f[1], nil
			maps[current] = map[string]string{}
		case f[0] == "chain":
			chain = &firewall.Chain{Table: table, Name: f[1]}
			table.Chains = append(table.Chains, chain)
		case chain == nil:
			// elements = { "a" : jump x, "b" : jump y }
			fields := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("{},= \t:", r) })
			for i := 0; i < len(fields); i++ {
				if fields[i] == "jump" {
					maps[current][strings.Trim(fields[i-1], `"`)] = fields[i+1]
				}
			}
		default:
			addRule(chain, strings.TrimSpace(line), parseNFTRule(t, f, maps))
		}
	}
	return table
}

func parseNFTRule(t *testing.T, f []string, maps map[string]map[string]string) *body {
	t.Helper()
	b := &body{}
	keys := map[string]string{"iifname": "-i", "oifname": "-o", "saddr": "-s", "daddr": "-d", "dport": "--dport",
		"state": "--ctstate", "l4proto": "-p", "protocol": "-p", "mark": "mark"}
	add := func(key, value string, not bool) {
		b.conditions = append(b.conditions, condition{key, strings.Trim(value, `"`), not})
	}
	for i := 0; i < len(f); i++ {
		if i+1 < len(f) && f[i+1] == "vmap" {
			b.vmapKey, b.vmap = f[i], maps[strings.TrimPrefix(f[i+2], "@")]
			return b
		}
		switch f[i] {
		case "ip", "ip6", "ct", "meta", "counter":
		case "packets", "bytes":
			i++
		case "tcp", "udp":
			add("-p", f[i], false)
		case "fib":
			add(map[string]string{"daddr": "--dst-type", "saddr": "--src-type"}[f[i+1]], "LOCAL", false)
			i += 3
		case "accept", "drop", "return", "masquerade":
			b.verdict = verdictOf(strings.ToUpper(f[i]), "")
			return b
		case "jump":
			b.verdict = verdictOf(f[i+1], "")
			return b
		case "dnat", "snat":
			b.verdict = verdictOf(strings.ToUpper(f[i]), f[i+2])
			return b
		default:
			key := keys[f[i]]
			if key == "" {
				t.Fatalf("unknown word %q in %q", f[i], f)
			}
			i++
			not := f[i] == "!="
			if not {
				i++
			}
			value := f[i]
			if value == "{" { // a set of devices
				value = ""
				for i++; f[i] != "}"; i++ {
					value += strings.Trim(f[i], `",`) + ","
				}
				value = strings.TrimSuffix(value, ",")
			}
			add(key, value, not)
		}
	}
	return b
}
