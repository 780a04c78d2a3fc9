package main

import (
	"bufio"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// listenKept answers every request of a connection until the test ends and returns the address.
func listenKept(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	labtest.Must(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err == nil && strings.TrimSpace(line) == "" {
						_, err = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// TestLatencyUsage: status 2, and what to do.
func TestLatencyUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                                   "--to is missing",
		"--to web:80 --rate 0":               "--rate is 0: give 1 to 100000",
		"--to web:80 --count -1":             "--count is -1",
		"--to web:80 --duration -1s":         "--duration is -1s",
		"--to web:80 --timeout 0s":           "--timeout is 0s",
		"--to web:80 --send PING":            "say with --from where they are sent from",
		"--to web:80 --from cli --send \\q":  "cannot read the escapes",
		"--to web:80 --from cli --proto udp": "leave --from out to time live udp traffic",
		"--to web:80 --proto sctp":           "--proto takes tcp, udp or icmp",
		"--to web:80 --threshold p99":        `threshold "p99" has no limit: give one as in p99=2ms`,
		"--to web:80 --threshold p100=1ms":   "is none of min, p50, p90, p99, p99.9, max",
		"--to web:80 --metrics 9435":         `--metrics takes an address with a port, such as :9435, got "9435"`,
		"--to web:80 --quantile half":        `"half" is none of min, p50`,
		"--to web:80 -o pcapng":              "pcapng",
		"web:80":                             "a target is given with --to",
	} {
		status, stdout, stderr := inProcess(t, append([]string{"latency"}, strings.Fields(args)...)...)
		if status != exitUsage || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("latency %s: status %d, want 2; %q, want %q; output %q", args, status, stderr, want, stdout)
		}
	}
}

// TestLatencyStatus: what became of the measurement, on loopback.
func TestLatencyStatus(t *testing.T) {
	labtest.NeedsRoot(t)
	kept, closed := listenKept(t), unused(t)
	for _, tt := range []struct {
		name, args string
		status     int
		want       string
	}{
		{"measured", "--from host --to " + kept + " --count 20 --threshold max=1m", exitDelivered, "20 round trips of own requests"},
		{"too slow", "--from host --to " + kept + " --count 20 --threshold p50=1ns -o json", exitNotDelivered, `"met":false`},
		{"refused", "--from host --to " + closed + " --count 20", exitNotDelivered, "nothing was measured"},
		{"no traffic", "--to " + closed + " --duration 100ms", exitNoTraffic, "nothing was measured"},
		{"metrics taken", "--to " + kept + " --metrics " + kept, exitCannotTrace, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"latency", "--docker-host", "unix://" + filepath.Join(t.TempDir(), "none.sock")}, strings.Fields(tt.args)...)
			status, stdout, stderr := inProcess(t, args...)
			if status != tt.status || !strings.Contains(stdout, tt.want) {
				t.Errorf("status %d, want %d; output without %q:\n%s%s", status, tt.status, tt.want, stdout, stderr)
			}
		})
	}
}
