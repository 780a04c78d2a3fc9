package render

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// findingCases are findings of every severity, with everything that can be in one and with nothing.
func findingCases() []path.Finding {
	return []path.Finding{
		{
			Severity: path.SeverityError, Check: "port-nothing-listens", Cause: path.CauseNotListening,
			Summary:  "published port 8081 leads to tcp port 8000 of web, on which nothing listens",
			Where:    &path.Place{Namespace: "web", Container: "web"},
			Evidence: []string{"web listens on tcp port 80", "web was started 12 minutes ago"},
			Remedy: []string{
				"recreate web with -p 8081:80 instead of -p 8081:8000", "docker logs --tail 20 web  # why its service does not listen",
			},
		}, {
			Severity: path.SeverityError, Check: "forwarding-off", Cause: path.CauseForwardingOff,
			Summary: "the host does not forward IPv4 packets: containers can neither be reached from outside nor get out",
			Where:   &path.Place{Host: "host1", Namespace: "host1"}, Evidence: []string{"net.ipv4.ip_forward is 0 in host1"},
			Remedy: []string{"nsenter --net=/run/netns/host1 sysctl -w net.ipv4.ip_forward=1"},
		}, {
			Severity: path.SeverityWarning, Check: "database-exposed",
			Summary: "db publishes port 5432, by its number PostgreSQL, to everybody who reaches this host",
			Where: &path.Place{Container: "db", Rule: &path.Rule{
				Family: "ip", Table: "filter", Chain: "DOCKER", Number: 3, Text: "-A DOCKER -d 172.18.0.3/32 -j ACCEPT", Owner: "docker",
			}},
		}, {Severity: path.SeverityNote, Check: "docker-absent", Summary: "a name with a \x1b[31mcontrol character"},
	}
}

func TestFindingsGolden(t *testing.T) {
	e := Examined{Containers: 12, Networks: 4, Namespaces: 13, WallNS: 182_000_000,
		Skipped: []string{"firewall rules were not read: CAP_NET_ADMIN is missing; run it as root"}}
	checkText(t, "findings", 0, func(o Options) { must(t, Findings(o, findingCases(), e)) })
	checkText(t, "", minWidth, func(o Options) { must(t, Findings(o, findingCases(), e)) })
	checkText(t, "findings-none", 0, func(o Options) { must(t, Findings(o, nil, Examined{Containers: 1, WallNS: 1_000_000})) })
}

// TestFindingsEnd: the last line counts, whatever was found.
func TestFindingsEnd(t *testing.T) {
	for want, list := range map[string][]path.Finding{
		"nothing found; ":                   nil,
		"2 errors, 1 warning, 1 note; ":     findingCases(),
		"1 warning; looked at 0 containers": findingCases()[2:3],
	} {
		var buf bytes.Buffer
		must(t, Findings(Options{Writer: &buf}, list, Examined{}))
		lines := strings.Split(strings.TrimSpace(buf.String()), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, want) {
			t.Errorf("last line %q, want %q", last, want)
		}
	}
}
