package render

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestRemedy: what is pasted from the screen is the command, whole, and comments.
func TestRemedy(t *testing.T) {
	const command = "iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 -s 10.99.0.0/24  -j RETURN"
	const folded = "iptables -I DOCKER-USER -p tcp -m conntrack \\\n" +
		"           --ctorigdstport 8080 -s 10.99.0.0/24  -j RETURN\n"
	for _, tt := range []struct{ name, remedy, want string }{
		{"fits", "docker start web  # it ended", "  do:      docker start web # it ended\n"},
		{"too wide", command, "  do:      " + folded},
		{"comment too wide", command + "  # all sources; not kept over a restart of the host or of the firewall itself",
			"  do:      " + folded +
				"           # all sources; not kept over a restart of the host or of\n" +
				"           # the firewall itself\n"},
		{"advice", "start a service on port 81 in web, or use --to web:80, which is published",
			"  do:      start a service on port 81 in web, or use --to web:80,\n           which is published\n"},
		{"control characters", "docker start 'a\x1b[31m'", "  do:      docker start 'a?[31m'\n"},
	} {
		var out strings.Builder
		p := newPrinter(Options{Writer: &out, Width: 70})
		writeVerdict(p, path.Verdict{Outcome: path.Dropped, Remedy: []string{tt.remedy}})
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(out.String(), "\n")
		if got != tt.want {
			t.Errorf("%s:\ngot\n%swant\n%s", tt.name, got, tt.want)
		}
	}
}
