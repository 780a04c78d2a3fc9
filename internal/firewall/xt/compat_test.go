package xt_test

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall/xt"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/netns"
)

// extensions returns the text of each match and target in the rules of a family of nf_tables, decoded
// from the bytes that the kernel holds.
func extensions(t *testing.T, dec xt.Decoder, family uint8) []string {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	replies, err := c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: []byte{family, 0, 0, 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range replies {
		for _, rule := range attributes(t, m.Data[4:]) {
			if rule.Type != unix.NFTA_RULE_EXPRESSIONS {
				continue
			}
			for _, elem := range attributes(t, rule.Data) {
				if text := extension(t, dec, family, elem.Data); text != "" {
					list = append(list, text)
				}
			}
		}
	}
	return list
}

// extension decodes an expression if it is a match or a target.
func extension(t *testing.T, dec xt.Decoder, family uint8, expr []byte) string {
	t.Helper()
	var kind, name string
	var rev uint8
	var data []byte
	for _, a := range attributes(t, expr) {
		switch a.Type {
		case unix.NFTA_EXPR_NAME:
			kind = strings.TrimRight(string(a.Data), "\x00")
		case unix.NFTA_EXPR_DATA:
			if kind != "match" && kind != "target" {
				return ""
			}
			for _, b := range attributes(t, a.Data) { // NFTA_MATCH_* and NFTA_TARGET_* are alike
				switch b.Type {
				case unix.NFTA_MATCH_NAME:
					name = strings.TrimRight(string(b.Data), "\x00")
				case unix.NFTA_MATCH_REV:
					rev = b.Data[3]
				case unix.NFTA_MATCH_INFO:
					data = b.Data
				}
			}
		}
	}
	switch v6 := family == unix.NFPROTO_IPV6; kind {
	case "match":
		return dec.Match(v6, name, rev, data).Text
	case "target":
		return dec.Target(v6, name, rev, data).Text
	}
	return ""
}

func attributes(t *testing.T, b []byte) []netlink.Attribute {
	t.Helper()
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestCompat adds rules with iptables-nft and ebtables-nft and compares each match and target that they
// write as such with what the tools show of the rule.
func TestCompat(t *testing.T) {
	labtest.NeedsRoot(t)
	for _, c := range []struct {
		file, tool string
		show       []string
		family     uint8
		dec        xt.Decoder
	}{
		{"testdata/bridge.rules", "ebtables-nft", []string{"-t filter -L", "-t nat -L"}, unix.NFPROTO_BRIDGE, xt.Decoder{Bridge: true}},
		{"../legacy/testdata/options4.rules", "iptables-nft", []string{"-S", "-t mangle -S", "-t raw -S", "-t nat -S"}, unix.NFPROTO_IPV4, xt.Decoder{}},
		{"../legacy/testdata/options6.rules", "ip6tables-nft", []string{"-S", "-t mangle -S", "-t raw -S", "-t nat -S"}, unix.NFPROTO_IPV6, xt.Decoder{}},
	} {
		t.Run(c.tool, func(t *testing.T) {
			if _, err := exec.LookPath(c.tool); err != nil {
				t.Skip(err)
			}
			ns, err := netns.New()
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			if err := netns.Do(ns, func() error {
				load(t, c.tool, c.file)
				shown := ""
				for _, args := range c.show {
					out, err := exec.Command(c.tool, strings.Fields(args)...).Output()
					if err != nil {
						t.Errorf("%s %s: %v", c.tool, args, err)
					}
					shown += strings.ReplaceAll(string(out), "\n", " \n")
				}
				found := extensions(t, c.dec, c.family)
				for _, text := range found {
					if !strings.Contains(shown, text+" ") {
						t.Errorf("%s does not show %q", c.tool, text)
					}
				}
				if len(found) < 10 {
					t.Errorf("only %d matches and targets were found", len(found))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// load adds the rules of a file, one by one: a kernel may not know all of them.
func load(t *testing.T, tool, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		rule := strings.TrimSpace(s.Text())
		if rule == "" || strings.HasPrefix(rule, "#") {
			continue
		}
		if out, err := exec.Command("sh", "-c", tool+" "+rule).CombinedOutput(); err != nil {
			t.Logf("refused: %s: %s", rule, out)
		}
	}
}
