//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/pcapng/pcapngtest"
)

// captured are the packets of a capture, each with these fields, separated by bars.
func captured(t *testing.T, file string) string {
	t.Helper()
	warnings := pcapngtest.TShark(t, file, "-o", "tcp.analyze_sequence_numbers:FALSE", "-o", "ip.check_checksum:TRUE", "-q", "-z", "expert,warn")
	if strings.TrimSpace(warnings) != "" {
		t.Errorf("tshark warns:\n%s", warnings)
	}
	return pcapngtest.TShark(t, file, "-T", "fields", "-E", "separator=|", "-E", "aggregator=;", "-e", "frame.interface_name",
		"-e", "frame.interface_description", "-e", "ip.src", "-e", "ip.dst", "-e", "tcp.dstport", "-e", "frame.packet_id", "-e", "frame.comment")
}

// inOrder checks that a line with all parts follows the one with those before.
func inOrder(t *testing.T, text string, lines ...[]string) {
	t.Helper()
	rest := strings.Split(text, "\n")
next:
	for _, parts := range lines {
		for i, line := range rest {
			found := true
			for _, p := range parts {
				found = found && strings.Contains(line, p)
			}
			if found {
				rest = rest[i:]
				continue next
			}
		}
		t.Fatalf("no line with %q, in this order, in\n%s", parts, text)
	}
}

// TestPCAPNG: what Wireshark shows of a connection to a published port, and of one that a rule drops: the
// interfaces have the names of containers and networks, and each packet the addresses it had there.
func TestPCAPNG(t *testing.T) {
	h := need(t).Hosts[1]
	n := h.network(t)
	web := n.server(t, "-p", "80")
	addr, published := web.addr(n).String(), web.published("80/tcp")
	file := filepath.Join(t.TempDir(), "a.pcapng")
	trace := func(status int) string {
		r := h.run(t, "--from", shared.Outside, "--to", published.String(), "--timeout", "500ms", "-o", "pcapng", "-w", file)
		if r.status != status || r.stdout != "" || !strings.Contains(r.stderr, "wrote ") {
			t.Errorf("status %d, output %q and %q, want status %d", r.status, r.stdout, r.stderr, status)
		}
		return captured(t, file)
	}
	t.Run("delivered", func(t *testing.T) {
		inOrder(t, trace(statusDelivered),
			[]string{"|" + published.Addr().String() + "|", "request SYN (flow 1, packet 1): device transmit"},
			[]string{"netfilter/prerouting dnat", "|" + addr + "|80|", "-A DOCKER"},
			[]string{n.Bridge + "|", "network " + n.Name, "bridge device", "|" + addr + "|80|"},
			[]string{web.Name + "/eth0|", "container " + web.Name, "network " + n.Name, "|" + addr + "|80|4294967297|"},
			[]string{web.Name + "/eth0|", "|" + addr + "|", "reply SYN-ACK"},
			[]string{"delivered: "})
	})
	t.Run("dropped", func(t *testing.T) {
		h.saveRules(t)
		h.do(t, h.tool("iptables"), "-I", "DOCKER-USER", "-p", "tcp", "-d", addr, "-j", "DROP")
		inOrder(t, trace(statusNotDelivered),
			[]string{"|" + addr + "|80|", "netfilter/forward drop", "[firewall-drop]", "DOCKER-USER"})
	})
}

// TestHostsPCAPNG: the packets of two hosts are in one capture, in the order in which they happened.
func TestHostsPCAPNG(t *testing.T) {
	need(t)
	one, two := shared.Hosts[0], shared.Hosts[1]
	s := newSSH(t, one, two)
	n1, n2 := one.network(t), two.network(t)
	cli := n1.client(t)
	web := n2.server(t, "-p", "18081:80")
	file := filepath.Join(t.TempDir(), "a.pcapng")
	r := s.run(t, append(at(one, two), "--from", cli.Name, "--to", web.Name+":80", "-o", "pcapng", "-w", file)...)
	if r.status != statusDelivered {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	text := captured(t, file)
	if strings.Contains(text, "headers rebuilt") {
		t.Errorf("bytes of a host are missing in\n%s", text)
	}
	inOrder(t, text,
		[]string{cli.Name + "/eth0|host " + one.name(), "network " + n1.Name, "request SYN (flow 1, packet 1): device transmit"},
		[]string{"host " + two.name(), "netfilter/prerouting dnat", "|4294967297|"},
		[]string{web.Name + "/eth0|host " + two.name(), "network " + n2.Name, "|4294967297|", "device receive"},
		[]string{web.Name + "/eth0|", "reply SYN-ACK"},
		[]string{cli.Name + "/eth0|", "reply SYN-ACK"})
}
