package main

import (
	"strings"
	"testing"
)

// TestMTUUsage: status 2, and what to do.
func TestMTUUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                               "--to is missing",
		"--to web:80 --expect -1":        "--expect is -1: give a size in bytes",
		"--to web:80 --expect 70000":     "no IP packet is larger than 65535 bytes",
		"--to web:80 --expect x":         `--expect takes a number, got "x"`,
		"--to web:80 --live -1s":         "--live is -1s: give a time",
		"--to web:80 --duration 3s":      "--duration is for --watch",
		"--to web:80 --proto sctp":       "--proto takes tcp, udp or icmp",
		"--to web:80 --watch --from cli": "a watch sends nothing",
		"--to web:80 --watch --live 2s":  "a watch lasts as long as --duration says",
		"--to web:80 --watch --expect 9": "what passes is measured without --watch",
		"web:80":                         "a target is given with --to",
	} {
		status, stdout, stderr := inProcess(t, append([]string{"mtu"}, strings.Fields(args)...)...)
		if status != exitUsage || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("mtu %s: status %d, want 2; %q, want %q; output %q", args, status, stderr, want, stdout)
		}
	}
}
