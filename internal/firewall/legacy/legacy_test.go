package legacy_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/legacy"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/netns"
)

// inNamespace calls fn on a thread in a network namespace of its own.
func inNamespace(t testing.TB, fn func()) {
	t.Helper()
	labtest.NeedsRoot(t)
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := netns.Do(ns, func() error { fn(); return nil }); err != nil {
		t.Fatal(err)
	}
}

// run runs a program in the namespace of the calling thread and returns what it printed.
func run(t testing.TB, stdin string, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s", name)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

// read reads the tables and fails on any problem.
func read(t testing.TB) []*firewall.Table {
	t.Helper()
	tables, problems, err := legacy.Read(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	return tables
}

// show prints a table as iptables -S does.
func show(table *firewall.Table) []string {
	var lines, rules []string
	for _, c := range table.Chains {
		switch {
		case !c.IsBase():
			lines = append(lines, "-N "+c.Name)
		case c.Policy == firewall.Drop:
			lines = append(lines, "-P "+c.Name+" DROP")
		default:
			lines = append(lines, "-P "+c.Name+" ACCEPT")
		}
		for _, r := range c.Rules {
			rules = append(rules, r.Text())
		}
	}
	return append(lines, rules...)
}

// compare compares every table that was read with what the tool prints of it.
func compare(t *testing.T, tool string, tables []*firewall.Table) {
	t.Helper()
	for _, table := range tables {
		if (table.Family == firewall.FamilyIP6) != strings.HasPrefix(tool, "ip6") {
			continue
		}
		out, err := run(t, "", tool, "-t", table.Name, "-S")
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Split(strings.TrimSpace(out), "\n")
		got := show(table)
		for i := range max(len(got), len(want)) {
			g, w := "", ""
			if i < len(got) {
				g = got[i]
			}
			if i < len(want) {
				w = strings.TrimSpace(want[i])
			}
			if g != w {
				t.Errorf("%s, table %s:\n got %s\nwant %s", tool, table.Name, g, w)
			}
		}
	}
}

// lines returns the lines of a file of testdata without its comments.
func lines(t testing.TB, name string) []string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if text := strings.TrimSpace(s.Text()); text != "" && !strings.HasPrefix(text, "#") {
			list = append(list, text)
		}
	}
	return list
}

// TestOptions adds rules with every option of every match and target that this package knows, and
// compares the text with that of iptables itself.
func TestOptions(t *testing.T) {
	for tool, file := range map[string]string{
		"iptables-legacy": "options4.rules", "ip6tables-legacy": "options6.rules",
	} {
		t.Run(tool, func(t *testing.T) {
			inNamespace(t, func() {
				rules, refused := lines(t, file), 0
				for _, rule := range rules {
					// The shell takes the quotes apart, as it does for people.
					if _, err := run(t, "", "sh", "-c", tool+" "+rule); err != nil {
						t.Logf("refused: %v", err)
						refused++
					}
				}
				if refused > len(rules)/4 {
					t.Errorf("%d of %d rules were refused", refused, len(rules))
				}
				compare(t, tool, read(t))
			})
		})
	}
}

// TestLayouts loads what well-known programs write and compares rules, policies and counters with
// what iptables shows.
func TestLayouts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.save")
	if err != nil || len(files) == 0 {
		t.Fatalf("no layouts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			rules, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			inNamespace(t, func() {
				if _, err := run(t, string(rules), "iptables-legacy-restore", "--counters"); err != nil {
					t.Fatal(err)
				}
				tables := read(t)
				if len(tables) == 0 {
					t.Error("no tables were read")
				}
				compare(t, "iptables-legacy", tables)
			})
		})
	}
}

// find returns the table of that name.
func find(t testing.TB, tables []*firewall.Table, family firewall.Family, name string) *firewall.Table {
	t.Helper()
	for _, table := range tables {
		if table.Family == family && table.Name == name {
			return table
		}
	}
	t.Fatalf("no table %s %s", family, name)
	return nil
}

// TestCounters checks counters, numbers, hooks and verdicts.
func TestCounters(t *testing.T) {
	rules, err := os.ReadFile("testdata/docker-20.10.save")
	if err != nil {
		t.Fatal(err)
	}
	inNamespace(t, func() {
		if _, err := run(t, string(rules), "iptables-legacy-restore", "--counters"); err != nil {
			t.Fatal(err)
		}
		tables := read(t)
		forward := find(t, tables, firewall.FamilyIP, "filter").Chain("FORWARD")
		if forward.Policy != firewall.Drop || !forward.PolicyCounted || forward.PolicyPackets != 5 ||
			forward.Hook != firewall.Forward || forward.Type != "filter" || forward.Priority != 0 {
			t.Errorf("chain FORWARD: %+v", forward)
		}
		first := forward.Rules[0]
		if first.Packets != 20 || first.Bytes != 1200 || !first.Counted || first.Number != 1 ||
			first.Chain != forward {
			t.Errorf("first rule of FORWARD: %+v", first)
		}
		nat := find(t, tables, firewall.FamilyIP, "nat")
		if c := nat.Chain("PREROUTING"); c.Priority != -100 || c.Type != "nat" {
			t.Errorf("chain PREROUTING: %+v", c)
		}
		if c := nat.Chain("POSTROUTING"); c.Priority != 100 {
			t.Errorf("chain POSTROUTING: %+v", c)
		}
		dnat := nat.Chain("DOCKER").Rules[2]
		want := firewall.Verdict{Kind: firewall.DNAT, Detail: "172.18.0.2:80"}
		if v := dnat.Body.Verdicts(); dnat.Packets != 7 || dnat.Number != 3 || len(v) != 1 || v[0] != want {
			t.Errorf("third rule of DOCKER: %+v, verdicts %+v", dnat, v)
		}
	})
}

// TestUntouched checks that reading a namespace without tables creates none: also not those of
// which another namespace has some.
func TestUntouched(t *testing.T) {
	inNamespace(t, func() {
		if tables := read(t); len(tables) != 0 {
			t.Errorf("tables in a new namespace: %v", tables)
		}
		if _, err := run(t, "", "iptables-legacy", "-t", "raw", "-A", "OUTPUT", "-j", "ACCEPT"); err != nil {
			t.Fatal(err)
		}
		if tables := read(t); len(tables) != 1 || tables[0].Name != "raw" {
			t.Errorf("got %d tables, want raw alone", len(tables))
		}
		for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if got := strings.Fields(string(b)); len(got) > 1 || len(got) == 1 && got[0] != "raw" {
				t.Errorf("%s after reading: %v", name, got)
			}
		}
	})
}

// BenchmarkRead reads 5,000 rules as Docker writes them.
func BenchmarkRead(b *testing.B) {
	inNamespace(b, func() {
		var rules strings.Builder
		rules.WriteString("*filter\n:DOCKER - [0:0]\n")
		for i := range 5000 {
			fmt.Fprintf(&rules, "-A DOCKER -d 172.18.%d.%d/32 ! -i br0 -o br0 -p tcp -m tcp --dport %d "+
				"-m conntrack --ctstate NEW -j ACCEPT\n", i/256, i%256, i+1)
		}
		rules.WriteString("COMMIT\n")
		if _, err := run(b, rules.String(), "iptables-legacy-restore"); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if tables := read(b); len(tables[0].Chain("DOCKER").Rules) != 5000 {
				b.Fatal("rules are missing")
			}
		}
	})
}

// TestSets judges a rule by the content of its set.
func TestSets(t *testing.T) {
	inNamespace(t, func() {
		err := netlink.IpsetCreate("blocked", "hash:ip", netlink.IpsetCreateOptions{})
		if err != nil {
			t.Skipf("create set: %v", err)
		}
		if err := netlink.IpsetAdd("blocked", &netlink.IPSetEntry{IP: net.IPv4(10, 0, 0, 1).To4()}); err != nil {
			t.Fatal(err)
		}
		for _, rule := range []string{
			"-A FORWARD -m set --match-set blocked src -j DROP",
			"-A FORWARD -m set ! --match-set blocked dst -j DROP",
			"-A FORWARD -m set --match-set blocked src,dst --return-nomatch ! --update-counters -j DROP",
			"-A FORWARD -m set --match-set blocked src ! --update-subcounters --packets-gt 5 ! --bytes-eq 1 -j DROP",
			"-A FORWARD -j SET --add-set blocked src --exist --timeout 5",
			"-A FORWARD -j SET --del-set blocked dst",
		} {
			if _, err := run(t, "", "sh", "-c", "iptables-legacy "+rule); err != nil {
				t.Logf("refused: %v", err)
			}
		}
		tables := read(t)
		compare(t, "iptables-legacy", tables)
		rules := find(t, tables, firewall.FamilyIP, "filter").Chain("FORWARD").Rules
		for src, want := range map[string][2]firewall.Truth{
			"10.0.0.1": {firewall.Yes, firewall.Yes}, "10.0.0.2": {firewall.No, firewall.Yes},
		} {
			p := &firewall.Packet{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("10.0.0.9")}
			for i := range want {
				if got := rules[i].Body.Judge(p).Match; got != want[i] {
					t.Errorf("%s, source %s: got %v, want %v", rules[i].Text(), src, got, want[i])
				}
			}
		}
	})
}

// TestChanging reads a table again and again while another thread changes it: each reading is a whole
// table, of before or after a change.
func TestChanging(t *testing.T) {
	inNamespace(t, func() {
		small := "*filter\n:A - [0:0]\n-A A -j ACCEPT\nCOMMIT\n"
		large := "*filter\n:A - [0:0]\n" + strings.Repeat("-A A -p tcp -m tcp --dport 80 -j ACCEPT\n", 500) + "COMMIT\n"
		if _, err := run(t, small, "iptables-legacy-restore"); err != nil {
			t.Fatal(err)
		}
		// The child keeps the namespace of this thread.
		cmd := exec.Command("sh", "-c", `i=0; while [ $i -lt 60 ]; do
			printf %s "$1" | iptables-legacy-restore; printf %s "$2" | iptables-legacy-restore; i=$((i+1)); done`,
			"sh", large, small)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		for readings := 0; ; readings++ {
			select {
			case err := <-done:
				if err != nil || readings == 0 {
					t.Errorf("%d readings, changing the table: %v", readings, err)
				}
				return
			default:
			}
			table := find(t, read(t), firewall.FamilyIP, "filter")
			if n := len(table.Chain("A").Rules); n != 1 && n != 500 {
				t.Errorf("%d rules", n)
			}
		}
	})
}

// TestNetmap checks that NETMAP changes the destination before routing and the source after it.
func TestNetmap(t *testing.T) {
	inNamespace(t, func() {
		if _, err := run(t, "", "iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", "10.1.0.0/16",
			"-j", "NETMAP", "--to", "10.2.0.0/16"); err != nil {
			t.Fatal(err)
		}
		rule := find(t, read(t), firewall.FamilyIP, "nat").Chain("POSTROUTING").Rules[0]
		for hook, want := range map[firewall.Hook]firewall.VerdictKind{
			firewall.Prerouting: firewall.DNAT, firewall.Postrouting: firewall.SNAT,
		} {
			p := &firewall.Packet{Hook: hook, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.3.0.1")}
			j := rule.Body.Judge(p)
			if j.Match != firewall.Yes || j.Verdict != (firewall.Verdict{Kind: want, Detail: "10.2.0.0/16"}) {
				t.Errorf("%s: got %+v", hook, j)
			}
		}
	})
}
