package tracer

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestMTURecord: a record of a measurement has everything that the verdict rests on.
func TestMTURecord(t *testing.T) {
	words := map[path.Direction]string{path.Request: "x"}
	lists := map[path.Direction][]string{path.Reply: {"y"}}
	want := mtu.Facts{
		Directions: []path.MTU{{Type: "mtu", MTU: 1400, Links: []path.MTULink{{Device: "eth0", MTU: 1500}}, End: &path.MTUEnd{From: "web"}}},
		Expect:     1450, Source: "client", Target: "web", Complete: true, LostEvents: 3, OpenRule: lists, RuleEvidence: lists,
		Routes: words, Detours: words, Spaces: map[uint32]mtu.Space{7: {Enter: "nsenter ", Container: "web", Clamp: "nft", Forwards: true}},
		Networks: map[string]mtu.Network{"app": {Driver: "bridge", MTU: 1400, Default: true, Attachable: true}},
	}
	for i := range reflect.TypeFor[mtu.Facts]().NumField() {
		if f := reflect.ValueOf(want).Field(i); f.IsZero() {
			t.Errorf("this test knows nothing of %s", reflect.TypeFor[mtu.Facts]().Field(i).Name)
		}
	}
	text, err := json.Marshal(describeMTU(&want))
	labtest.Must(t, err)
	var rec mtuRecord
	labtest.Must(t, json.Unmarshal(text, &rec))
	if got := rec.facts(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
