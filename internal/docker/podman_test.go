package docker

import (
	"reflect"
	"testing"
)

// TestPodman checks what is made of the answers of Podman 4.3, which differ from Docker's.
func TestPodman(t *testing.T) {
	networks := map[string]*Network{
		"2f25": {ID: "2f25", Name: "bridge", Driver: "bridge", Bridge: "docker0"},
		"fcfc": {ID: "fcfc", Name: "pnet", Driver: "bridge", Bridge: "br-fcfc"},
		"0e0e": {ID: "0e0e", Name: "mv", Driver: "macvlan"},
		"dead": {ID: "dead", Name: "gone", Driver: "bridge", Bridge: "br-dead"},
	}
	asPodman(networks, []podmanNetwork{
		{"2f25", "podman", "cni-podman0"}, {"fcfc", "pnet", "cni-podman1"}, {"0e0e", "mv", "eth0"},
	})
	want := map[string]*Network{
		"2f25": {ID: "2f25", Name: "podman", Driver: "bridge", Bridge: "cni-podman0"},
		"fcfc": {ID: "fcfc", Name: "pnet", Driver: "bridge", Bridge: "cni-podman1"},
		"0e0e": {ID: "0e0e", Name: "mv", Driver: "macvlan", Parent: "eth0"},
		"dead": {ID: "dead", Name: "gone", Driver: "bridge"},
	}
	if !reflect.DeepEqual(networks, want) {
		t.Errorf("networks: got %+v, want %+v", networks, want)
	}
	c := &Container{Endpoints: []Endpoint{{NetworkID: "pnet", Network: "pnet"}, {NetworkID: "podman", Network: "podman"}}}
	podmanContainer(c, networks)
	if c.Endpoints[0].NetworkID != "fcfc" || c.Endpoints[1].NetworkID != "2f25" {
		t.Errorf("endpoints: got %+v, want the networks' identifiers", c.Endpoints)
	}
	c = &Container{JoinedID: "abc", Endpoints: c.Endpoints, Ports: []Port{{HostPort: 80}}}
	if podmanContainer(c, networks); c.Endpoints != nil || c.Ports != nil {
		t.Errorf("a container in another's namespace has %+v of its own", c)
	}
}

// TestPodmanNetworks: an engine that says it is Podman is asked for its networks by its own API too.
func TestPodmanNetworks(t *testing.T) {
	f := newFakeEngine(t)
	f.podman = true
	f.start()
	e := f.connect()
	if got := e.List()[0]; !got.Podman {
		t.Errorf("got %+v, want one that is Podman", got)
	}
	if got := e.Networks(); len(got) != 1 || got[0].Name != "pnet" || got[0].Bridge != "cni-podman1" {
		t.Errorf("networks: got %+v, want Podman's names", got)
	}
}
