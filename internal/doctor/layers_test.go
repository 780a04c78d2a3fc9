package doctor

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestLinks(t *testing.T) {
	port := func(h *Host) *Link { return &h.NS.Links[4] }
	runIll(t, []ill{
		{name: "bridge down", spoil: func(h *Host) { h.NS.Links[2].Up = false }, want: []string{"error bridge-down"}, cause: path.CauseLinkDown,
			says: []string{"network app", "ip link set br-app up", "web and db"}},
		{name: "idle bridge down", spoil: func(h *Host) { h.NS.Links[3].Up = false }},
		{name: "bridge missing", spoil: func(h *Host) {
			h.NS.Links[2].Name = "br-other"
			h.NS.Links[4].Master, h.NS.Links[5].Master = 0, 0
		}, want: []string{"error bridge-missing", "error not-bridged", "error not-bridged"}, cause: path.CauseLinkDown, says: []string{"br-app does not exist"}},
		{name: "veth down", spoil: func(h *Host) { port(h).Up = false }, want: []string{"error veth-down"}, cause: path.CauseLinkDown,
			says: []string{"web is cut off from network app", "ip link set veth1 up"}},
		{name: "not in its bridge", spoil: func(h *Host) { port(h).Master = 0 }, want: []string{"error not-bridged"}, cause: "not-bridged",
			says: []string{"ip link set veth1 master br-app", "in no bridge"}},
		{name: "in another bridge", spoil: func(h *Host) { port(h).Master = docker0 }, want: []string{"error not-bridged"}, cause: "not-bridged",
			says: []string{"a port of docker0"}},
		{name: "blocked", spoil: func(h *Host) { port(h).PortState = "blocking" }, want: []string{"error bridge-port-blocked"},
			cause: "bridge-port-blocked", says: []string{"bridge link set dev veth1 state 3"}},
		{name: "down inside", spoil: func(h *Host) { h.Containers[0].NS.Links[1].Up = false }, want: []string{"error container-device-down"},
			cause: path.CauseLinkDown, says: []string{"nsenter --net=/run/docker/netns/web ip link set eth0 up"}},
		{name: "address gone", spoil: func(h *Host) { h.Containers[0].NS.Links[1].Addrs = nil }, want: []string{"error address-missing"},
			says: []string{"172.18.0.2", "eth0 in web carries no address", "docker network disconnect app web && docker network connect app web"}},
		{name: "device gone", spoil: func(h *Host) { h.Containers[0].NS.Links = h.Containers[0].NS.Links[:1] },
			want: []string{"error address-missing"}, says: []string{"no device in web carries 172.18.0.2"}},
		{name: "peer unknown", spoil: func(h *Host) { h.Containers[0].NS.Links[1].PeerNetNS = 0 }},
	})
}

func TestMTU(t *testing.T) {
	runIll(t, []ill{
		{name: "uplink", spoil: func(h *Host) { h.NS.Links[1].MTU = 1400 }, want: []string{"warning mtu-above-uplink"},
			cause: path.CausePacketTooBig, says: []string{"1500 bytes", "carries 1400", "driver.mtu=1400 app"}},
		{name: "larger uplink", spoil: func(h *Host) { h.NS.Links[1].MTU = 9000 }},
		{name: "internal", spoil: func(h *Host) {
			h.NS.Links[1].MTU, h.Networks[0].Internal, h.Containers[0].Configured = 1400, true, nil
		}},
		{name: "overlay", spoil: func(h *Host) {
			h.Networks[0].Driver, h.Networks[0].Bridge = "overlay", ""
			h.NS.Routes = h.NS.Routes[:2]
		},
			want: []string{"warning mtu-above-uplink"}, cause: path.CausePacketTooBig, says: []string{"of which VXLAN takes 50", "mtu=1450"}},
		{name: "pair", spoil: func(h *Host) { h.NS.Links[2].MTU = 1450 }, want: []string{"error mtu-mismatch", "error mtu-mismatch"},
			cause: path.CauseMTUBlackhole, says: []string{"eth0 in web has an MTU of 1500", "br-app in host has 1450", "ip link set eth0 mtu 1450"}},
	})
}

func TestAddresses(t *testing.T) {
	runIll(t, []ill{
		{name: "two containers", spoil: func(h *Host) {
			l := &h.Containers[1].NS.Links[1]
			l.Addrs = append(l.Addrs, prefix("172.18.0.2/16"))
		}, want: []string{"error duplicate-address"}, cause: "duplicate-address",
			says: []string{"web and db", "172.18.0.2 on network app", "the engine did not give it",
				"nsenter --net=/run/docker/netns/db ip addr del 172.18.0.2/16 dev eth0"}},
		{name: "the gateway's", spoil: func(h *Host) {
			l := &h.Containers[1].NS.Links[1]
			l.Addrs = append(l.Addrs, prefix("172.18.0.1/16"))
		}, want: []string{"error duplicate-address"}, cause: "duplicate-address", says: []string{"the host (br-app)"}},
		{name: "link-local", spoil: func(h *Host) {}},
		{name: "hardware", spoil: func(h *Host) {
			mac := h.Containers[0].NS.Links[1].MAC
			h.Containers[1].NS.Links[1].MAC, h.Containers[1].Endpoints[0].MAC = mac, mac
		}, want: []string{"error duplicate-mac"}, says: []string{"web and db", "02:42:ac:12:00:02"}},
		{name: "neighbour, for good", spoil: func(h *Host) {
			h.NS.Neighbours[0].MAC, h.NS.Neighbours[0].State = "02:42:ac:12:00:99", "PERMANENT"
		}, want: []string{"error wrong-neighbour"}, cause: "wrong-neighbour",
			says: []string{"web (172.18.0.2)", "02:42:ac:12:00:99", "ip neigh del 172.18.0.2 dev br-app"}},
		{name: "neighbour, stale", spoil: func(h *Host) {
			h.NS.Neighbours[0].MAC, h.NS.Neighbours[0].State = "02:42:ac:12:00:99", "STALE"
		}, want: []string{"note wrong-neighbour"}, cause: "wrong-neighbour", says: []string{"until the entry is renewed"}},
		{name: "neighbour, in use", spoil: func(h *Host) { h.NS.Neighbours[0].MAC = "02:42:ac:12:00:99" },
			want: []string{"warning wrong-neighbour"}, cause: "wrong-neighbour"},
		{name: "neighbour, failed", spoil: func(h *Host) { h.NS.Neighbours[0].MAC, h.NS.Neighbours[0].State = "", "FAILED" }},
		{name: "neighbour inside", spoil: func(h *Host) {
			h.Containers[1].NS.Neighbours = []Neighbour{{Ifindex: 9, Addr: addr("172.18.0.2"), MAC: "02:42:ac:12:00:99", State: "PERMANENT"}}
		}, want: []string{"error wrong-neighbour"}, cause: "wrong-neighbour", says: []string{"db sends", "nsenter --net=/run/docker/netns/db"}},
		{name: "subnet on the uplink", spoil: func(h *Host) {
			h.NS.Routes = append(h.NS.Routes, Route{Dst: prefix("172.18.7.0/24"), Dev: "eth0", Table: mainTable, Kernel: true})
		}, want: []string{"error subnet-overlap"}, cause: "subnet-overlap", says: []string{"172.18.7.0/24 by eth0", "docker network create --subnet 172.31.200.0/24 app"}},
		{name: "subnet in a wider route", spoil: func(h *Host) {
			h.NS.Routes = append(h.NS.Routes, Route{Dst: prefix("172.16.0.0/12"), Dev: "tun0", Table: mainTable})
		}, want: []string{"warning subnet-overlap", "warning subnet-overlap"}, cause: "subnet-overlap", says: []string{"tun0", "goes to its bridge"}},
		{name: "another table", spoil: func(h *Host) {
			h.NS.Routes = append(h.NS.Routes, Route{Dst: prefix("172.16.0.0/12"), Dev: "tun0", Table: 51820})
		}},
		{name: "macvlan", spoil: func(h *Host) {
			h.Networks = append(h.Networks, &Network{ID: "n8", Name: "mv", Driver: "macvlan", Parent: "eth0", Subnets: []netip.Prefix{prefix("192.0.2.0/24")}})
		}},
		{name: "overlay over the LAN", spoil: func(h *Host) {
			h.Networks = append(h.Networks, &Network{ID: "n8", Name: "ov", Driver: "overlay", Subnets: []netip.Prefix{prefix("192.0.2.0/24")}})
		}, want: []string{"warning subnet-overlap"}, cause: "subnet-overlap", says: []string{"network ov covers addresses of the host's own network on eth0"}},
		{name: "two networks", spoil: func(h *Host) { h.Networks[1].Subnets = h.Networks[0].Subnets }, want: []string{"error subnet-overlap"},
			cause: "subnet-overlap", says: []string{"networks app and bridge have the same addresses"}},
	})
}

func TestRoutes(t *testing.T) {
	stray := func(h *Host) {
		h.NS.Routes = append(h.NS.Routes, Route{Dst: prefix("198.18.0.0/24"), Dev: "br-app", Table: mainTable})
		h.NS.Sysctls["net/ipv4/conf/all/rp_filter"] = "1"
	}
	second := func(h *Host) {
		h.NS.Links = append(h.NS.Links, Link{Index: 20, Name: "eth1", Kind: "physical", Up: true})
		h.NS.Routes = append(h.NS.Routes, Route{Dst: prefix("0.0.0.0/0"), Dev: "eth1", Metric: 100, Table: mainTable})
		h.NS.Sysctls["net/ipv4/conf/eth1/rp_filter"] = "1"
	}
	runIll(t, []ill{
		{name: "no default route", spoil: func(h *Host) { h.Containers[0].NS.Routes = h.Containers[0].NS.Routes[1:] },
			want: []string{"error no-default-route"}, cause: path.CauseNoRoute,
			says: []string{"web", "172.18.0.0/16 by eth0", "nsenter --net=/run/docker/netns/web ip route add default via 172.18.0.1", "published: port 8080"}},
		{name: "VPN halves", spoil: func(h *Host) {
			h.Containers[0].NS.Routes = []Route{{Dst: prefix("0.0.0.0/1"), Dev: "tun0"}, {Dst: prefix("128.0.0.0/1"), Dev: "tun0"}}
		}},
		{name: "internal network", spoil: func(h *Host) {
			h.Networks[0].Internal, h.Containers[0].Configured, h.Containers[0].NS.Routes = true, nil, []Route{}
		}},
		{name: "routes not read", spoil: func(h *Host) { h.Containers[0].NS.Routes = nil }},
		{name: "stray route", spoil: func(h *Host) { stray(h); h.NS.Counters["TcpExtIPReversePathFilter"] = 7 }, want: []string{"warning strict-reverse-path"},
			cause: path.CauseReversePathFilter, says: []string{"198.18.0.0/24", "br-app", "strict", "refused 7 packets", "ip route del 198.18.0.0/24 dev br-app"}},
		{name: "loose", spoil: func(h *Host) { stray(h); h.NS.Sysctls["net/ipv4/conf/all/rp_filter"] = "2" }},
		{name: "two ways out", spoil: second, want: []string{"note strict-reverse-path"}, cause: path.CauseReversePathFilter, says: []string{"eth1", "eth0"}},
		{name: "two ways out with rules", spoil: func(h *Host) {
			second(h)
			h.NS.Routes = append(h.NS.Routes, Route{Dst: prefix("0.0.0.0/0"), Dev: "eth1", Table: 7})
		}},
		{name: "forwarding off", spoil: func(h *Host) { h.NS.Sysctls["net/ipv4/ip_forward"] = "0" }, want: []string{"error forwarding-off"},
			cause: path.CauseForwardingOff, says: []string{"web and db", "sysctl -w net.ipv4.ip_forward=1"}},
		{name: "forwarding off, nothing runs", spoil: func(h *Host) {
			h.NS.Sysctls["net/ipv4/ip_forward"], h.Containers = "0", nil
		}, want: []string{"warning forwarding-off"}, cause: path.CauseForwardingOff},
		{name: "IPv6 forwarding off", spoil: func(h *Host) {
			h.NS.Sysctls["net/ipv6/conf/all/forwarding"] = "0"
			h.Containers[1].Endpoints[0].IPv6 = addr("fd00::3")
			h.Containers[1].NS.Links[1].Addrs = append(h.Containers[1].NS.Links[1].Addrs, prefix("fd00::3/64"))
		}, want: []string{"warning forwarding-off-ipv6"}, cause: path.CauseForwardingOff, says: []string{"db", "net.ipv6.conf.all.forwarding=1"}},
		{name: "IPv6 forwarding off, IPv4 only", spoil: func(h *Host) { h.NS.Sysctls["net/ipv6/conf/all/forwarding"] = "0" }},
		{name: "forwarding off on a device", spoil: func(h *Host) { h.NS.Sysctls["net/ipv4/conf/br-app/forwarding"] = "0" },
			want: []string{"error forwarding-off-on-device"}, cause: path.CauseForwardingOff, says: []string{"sysctl -w net/ipv4/conf/br-app/forwarding=1"}},
	})
}
