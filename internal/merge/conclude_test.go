package merge

import (
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestReach: commands of a remedy run on the host that they are for; advice, and what is run from anywhere,
// stays as it is.
func TestReach(t *testing.T) {
	x := &Exchange{Facts: &diagnose.Facts{}}
	v := path.Verdict{Where: &path.Where{Host: "h2"}, Remedy: []string{
		"iptables-nft -D FORWARD 3  # lets it pass",
		"ipset del blocked 10.0.0.2",
		"pathtrace hooks  # shows which hooks this kernel offers",
		"pathtrace --to web:80  # on h1",
		"let the service listen on 0.0.0.0",
	}}
	want := []string{
		"ssh root@h2 'iptables-nft -D FORWARD 3'  # lets it pass",
		"ssh root@h2 'ipset del blocked 10.0.0.2'",
		v.Remedy[2], v.Remedy[3], v.Remedy[4],
	}
	x.reach([]Host{{Name: "h1"}, {Name: "h2", Reach: "ssh root@h2"}}, &v)
	if !slices.Equal(v.Remedy, want) {
		t.Errorf("got %q\nwant %q", v.Remedy, want)
	}
}
