package expect

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
)

// TestMissingJSON: nothing is lost on the way through a recording.
func TestMissingJSON(t *testing.T) {
	want := Missing{
		Cause: "nat-missing", Purpose: Publish, Sentence: "x", Exposes: true, Family: "ip", Port: Port{HostPort: 80},
		Stale: "y", hook: "prerouting",
		covers: match{
			in: "a", notIn: "b", out: "c", notOut: "d", src: netip.MustParsePrefix("10.0.0.0/8"), srcLocal: true,
			dstLocal: true, established: true, proto: "tcp", dport: 8080,
		},
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Missing
	if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
}
