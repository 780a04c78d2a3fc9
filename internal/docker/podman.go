package docker

import (
	"context"
	"slices"
)

// podmanNetwork is what Podman's own API tells of a network and its Docker-compatible one does not.
type podmanNetwork struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Device string `json:"network_interface"`
}

// isPodman reports whether an engine is Podman behind Docker's API: a header of its answers says so.
// Asking for its version would take seconds, since it starts its runtime for that.
func isPodman(ctx context.Context, about *asker) bool {
	res, err := about.do(ctx, "/_ping")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.Header.Get("Libpod-Api-Version") != ""
}

// podmanNetworks asks Podman's own API, which the same socket offers, for its networks. Without an
// answer they have no bridges and the default one another name, which costs names only.
func (e *engine) podmanNetworks(ctx context.Context, about *asker) []podmanNetwork {
	var list []podmanNetwork
	if err := about.get(ctx, "/v4.0.0/libpod/networks/json", &list); err != nil {
		e.log.Debug("ask Podman for its networks", "error", err)
		return nil
	}
	return list
}

// asPodman gives networks the names and devices they have with Podman: the Docker-compatible API calls
// the default one "bridge", as Docker does, and names no devices.
func asPodman(list map[string]*Network, known []podmanNetwork) {
	for id, n := range list {
		n.Bridge = ""
		i := slices.IndexFunc(known, func(p podmanNetwork) bool { return p.ID == id })
		if i < 0 {
			continue
		}
		n.Name = known[i].Name
		switch n.Driver {
		case "bridge":
			n.Bridge = known[i].Device
		case "macvlan", "ipvlan":
			n.Parent = known[i].Device
		}
	}
}

// podmanContainer makes of a container what Docker would say of it: endpoints with the identifiers of their
// networks, where Podman gives names, and none for one in another's namespace, where it repeats the other's.
func podmanContainer(c *Container, networks map[string]*Network) {
	if c.JoinedID != "" {
		c.Endpoints, c.Ports, c.Configured = nil, nil, nil
	}
	for i := range c.Endpoints {
		for id, n := range networks {
			if n.Name == c.Endpoints[i].NetworkID {
				c.Endpoints[i].NetworkID = id
			}
		}
	}
}
