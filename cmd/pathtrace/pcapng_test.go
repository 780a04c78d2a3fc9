package main

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/pcapng/pcapngtest"
)

// demoCapture runs the demo into a capture.
func demoCapture(t *testing.T, args ...string) string {
	t.Helper()
	labtest.NeedsRoot(t)
	file := filepath.Join(t.TempDir(), "demo.pcapng")
	status, stdout, stderr := inProcess(t, append([]string{"demo", "-o", "pcapng", "-w", file}, args...)...)
	if status != 0 || stdout != "" || strings.Count(stderr, "wrote ") != 2 {
		t.Fatalf("got status %d, output %q and %q, want how much was written of either trace", status, stdout, stderr)
	}
	return file
}

// TestDemoPCAPNG: a real trace opens in tshark without a warning; one packet is found by its identifier
// on every interface of its way, with the bytes that it had there.
func TestDemoPCAPNG(t *testing.T) {
	file := demoCapture(t)
	expert := pcapngtest.TShark(t, file, "-o", "tcp.analyze_sequence_numbers:FALSE", "-o", "ip.check_checksum:TRUE", "-q", "-z", "expert,warn")
	if strings.TrimSpace(expert) != "" {
		t.Errorf("tshark warns:\n%s", expert)
	}
	way := pcapngtest.TShark(t, file, "-T", "fields", "-E", "separator=|", "-Y", "frame.packet_id == 4294967297",
		"-e", "frame.interface_name", "-e", "ip.dst", "-e", "tcp.dstport", "-e", "frame.comment")
	at := 0
	for _, want := range []string{
		"client/eth0|192.0.2.1|8080|request SYN (flow 1, packet 1): ", "router/eth0|192.0.2.1|8080|",
		"router/eth0|10.77.0.2|80|request SYN (flow 1, packet 1): netfilter/prerouting dnat", "router/br-demo|10.77.0.2|80|",
		"web/eth0|10.77.0.2|80|", // the second section begins
		"router/eth0|10.77.0.2|80|request SYN (flow 1, packet 1): netfilter/forward drop: by nft_do_chain",
	} {
		i := strings.Index(way[at:], want)
		if i < 0 {
			t.Fatalf("%q is missing or out of order in\n%s", want, way)
		}
		at += i + len(want)
	}
	for _, no := range []string{"rebuilt", "capture is empty"} {
		if strings.Contains(way, no) {
			t.Errorf("%q in\n%s", no, way)
		}
	}
	// The verdict is with the flow's last packet, which may be a retransmission.
	if all := pcapngtest.TShark(t, file, "-T", "fields", "-e", "frame.comment"); strings.Count(all, "[firewall-drop]") != 1 {
		t.Errorf("want one verdict firewall-drop in\n%s", all)
	}
}

// TestDemoPCAPNGLink: what the devices see begins with the Ethernet header that is on the wire.
func TestDemoPCAPNGLink(t *testing.T) {
	file := demoCapture(t, "--snaplen", "40")
	got := pcapngtest.TShark(t, file, "-T", "fields", "-E", "separator=|", "-Y", `frame.comment contains "device"`,
		"-e", "eth.type", "-e", "frame.cap_len", "-e", "ip.version")
	for line := range strings.Lines(got) {
		if line != "0x0800|40|4\n" {
			t.Errorf("got %q, want 40 bytes of IPv4 over Ethernet", line)
		}
	}
	if len(got) < 100 {
		t.Errorf("only %q", got)
	}
}

// TestPCAPNGTerminal: it is not for a terminal.
func TestPCAPNGTerminal(t *testing.T) {
	master, slave := terminal(t, 80)
	defer master.Close()
	var errs bytes.Buffer
	status := run(t.Context(), []string{"--to", "web:80", "-o", "pcapng"}, slave, &errs)
	slave.Close()
	if want := "pcapng is not for a terminal: add -w FILE, or pipe it to a program"; status != exitUsage || !strings.Contains(errs.String(), want) {
		t.Errorf("got status %d and %q, want %d and %q", status, errs.String(), exitUsage, want)
	}
}

// TestDemoHTML: both traces are one page.
func TestDemoHTML(t *testing.T) {
	labtest.NeedsRoot(t)
	status, stdout, stderr := inProcess(t, "demo", "-o", "html")
	if status != 0 || stderr != "" {
		t.Errorf("got status %d and %q", status, stderr)
	}
	for want, n := range map[string]int{
		"<!DOCTYPE html>": 1, "<style>": 1, "<h1>client → 192.0.2.1:8080</h1>": 2, `class="flow good"`: 1, `class="flow bad"`: 1,
		"<b>dropped</b>: the request from client was dropped by rule": 1,
	} {
		if got := strings.Count(stdout, want); got != n {
			t.Errorf("%q is there %d times, want %d", want, got, n)
		}
	}
}

// TestReplayPCAPNG: a recording holds what a capture shows, as many bytes as were asked for.
func TestReplayPCAPNG(t *testing.T) {
	labtest.NeedsRoot(t)
	dir := t.TempDir()
	kept, file := filepath.Join(dir, "a.ptr"), filepath.Join(dir, "a.pcapng")
	if status, _, stderr := inProcess(t, "record", "-w", kept, "--from", "host", "--to", listen(t), "--snaplen", "50"); status != 0 {
		t.Fatalf("record: status %d: %s", status, stderr)
	}
	for _, tt := range []struct{ snaplen, longest string }{{"", "50"}, {"30", "30"}} {
		args := []string{"replay", "-o", "pcapng", "-w", file, kept}
		if tt.snaplen != "" {
			args = append(args, "--snaplen", tt.snaplen)
		}
		status, stdout, stderr := inProcess(t, args...)
		if status != 0 || stdout != "" || !strings.Contains(stderr, "wrote ") {
			t.Fatalf("replay: status %d, output %q and %q", status, stdout, stderr)
		}
		lengths := map[string]bool{}
		for line := range strings.Lines(pcapngtest.TShark(t, file, "-T", "fields", "-e", "frame.cap_len")) {
			lengths[strings.TrimSpace(line)] = true
		}
		if !lengths[tt.longest] || lengths["60"] || lengths["74"] {
			t.Errorf("snaplen %q: lengths %v, want %s at most", tt.snaplen, lengths, tt.longest)
		}
	}
	now := pcapngtest.TShark(t, file, "-c", "1", "-T", "fields", "-e", "frame.time_epoch")
	if seconds, err := strconv.ParseFloat(strings.TrimSpace(now), 64); err != nil || time.Since(time.Unix(int64(seconds), 0)).Abs() > time.Minute {
		t.Errorf("the first packet is of %q, want the time of the trace", now)
	}
	if status, page, _ := inProcess(t, "replay", "-o", "html", kept); status != 0 || !strings.Contains(page, "<b>delivered</b>") {
		t.Errorf("replayed as a page: status %d\n%s", status, page)
	}
}

// TestTextAsPage: commands that have only text to show make a page of it.
func TestTextAsPage(t *testing.T) {
	labtest.NeedsRoot(t)
	status, page, stderr := inProcess(t, "hooks", "-o", "html")
	if status != 0 || stderr != "" || !strings.HasPrefix(page, "<!DOCTYPE html>") || !strings.HasSuffix(page, "</html>\n") ||
		!strings.Contains(page, "kfree_skb") {
		t.Errorf("got status %d, %q and\n%s", status, stderr, page)
	}
}
