package doctor

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// publish publishes a port of a container on every address.
func publish(c *Container, host, inside uint16, proto string) {
	for _, ip := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		p := Port{HostIP: ip, HostPort: host, ContainerPort: inside, Proto: proto}
		c.Published, c.Configured = append(c.Published, p), append(c.Configured, p)
	}
}

func TestPublished(t *testing.T) {
	runIll(t, []ill{
		{name: "nothing listens", spoil: func(h *Host) { h.Containers[0].NS.TCP = []Listener{} },
			want: []string{"error port-nothing-listens"}, cause: path.CauseNotListening,
			says: []string{"published port 8080 leads to tcp port 80 of web", "web listens on no tcp port", "started 60 minutes ago", "docker logs"}},
		{name: "another port", spoil: func(h *Host) { h.Containers[0].NS.TCP = []Listener{listener("0.0.0.0:3000")} },
			want: []string{"error port-nothing-listens"}, cause: path.CauseNotListening,
			says: []string{"web listens on tcp port 3000", "-p 8080:3000 instead of -p 8080:80"}},
		{name: "loopback", spoil: func(h *Host) { h.Containers[0].NS.TCP = []Listener{listener("127.0.0.1:80"), listener("[::1]:80")} },
			want: []string{"error port-on-loopback"}, cause: path.CauseListeningOnLoopback, says: []string{"8080", "web", "0.0.0.0:80"}},
		{name: "IPv6 only", spoil: func(h *Host) { h.Containers[0].NS.TCP[0].V6Only = true },
			want: []string{"error port-nothing-listens"}, cause: path.CauseNotListening, says: []string{"over IPv4", "over IPv6 only"}},
		{name: "listeners not read", spoil: func(h *Host) { h.Containers[0].NS.TCP = nil }},
		{name: "another protocol", spoil: func(h *Host) { publish(h.Containers[0], 8080, 80, "udp") },
			want: []string{"error port-nothing-listens"}, cause: path.CauseNotListening, says: []string{"udp port 80 of web"}},
		{name: "on demand", spoil: func(h *Host) {
			for p := uint16(50000); p < 50020; p++ {
				publish(h.Containers[0], p, p, "tcp")
			}
		}, want: []string{"note port-range-nothing-listens"}, cause: path.CauseNotListening, says: []string{"50000-50019"}},
		{name: "paused", spoil: func(h *Host) { h.Containers[0].State = "paused" },
			want: []string{"warning container-paused"}, cause: path.CauseContainerPaused, says: []string{"docker unpause web"}},
		{name: "a process of the host", spoil: func(h *Host) { h.NS.TCP[0].Process = "nginx" }, want: []string{"note port-shared"},
			cause: "port-conflict", says: []string{"nginx (process 7) listens on 0.0.0.0:8080", "web is published on 0.0.0.0:8080"}},
		{name: "dockerd keeps the port", spoil: func(h *Host) { h.NS.TCP[0].Process = "dockerd" }},
		{name: "internal", spoil: func(h *Host) {
			h.Networks[0].Internal, h.Containers[0].Published = true, nil
		}, want: []string{"warning port-not-published"}, cause: "network-isolation", says: []string{"port 8080", "network app is internal"}},
		{name: "disconnected", spoil: func(h *Host) {
			c := h.Containers[0]
			c.Endpoints, c.Published, c.NS.Routes = nil, nil, []Route{}
		}, want: []string{"warning port-not-published"}, cause: path.CauseNoSharedNetwork, says: []string{"docker network connect app web"}},
		{name: "on the host network", spoil: func(h *Host) {
			c := h.Containers[0]
			c.Mode, c.Endpoints, c.Published, c.NS = "host", nil, nil, h.NS
		}, want: []string{"note port-not-published"}, cause: path.CauseNotPublished, says: []string{"host network"}},
	})
}

func TestStart(t *testing.T) {
	const bind = "driver failed programming external connectivity on endpoint pp (ab): Bind for 0.0.0.0:8080 failed: port is already allocated"
	created := func(h *Host, text string) {
		c := &Container{ID: "c9", Name: "pp", State: "created", StartError: text, Mode: "app"}
		publish(c, 8080, 80, "tcp")
		c.Published = nil
		h.Containers = append(h.Containers, c)
	}
	stop := func(h *Host, code int) *Container {
		c := h.Containers[0]
		c.State, c.NS, c.Published, c.ExitCode, c.Finished = "exited", nil, nil, code, h.Now.Add(-3*time.Hour)
		return c
	}
	runIll(t, []ill{
		{name: "another container", spoil: func(h *Host) { created(h, bind) }, want: []string{"error port-taken"}, cause: "port-conflict",
			says: []string{"pp", "host port 8080", "web publishes port 8080", "docker stop web && docker start pp"}},
		{name: "a process", spoil: func(h *Host) {
			created(h, "listen tcp4 0.0.0.0:22: bind: address already in use")
			h.NS.TCP[1].Process, h.NS.TCP[1].PID = "sshd", 99
		}, want: []string{"error port-taken"}, cause: "port-conflict", says: []string{"sshd (process 99) listens on port 22"}},
		{name: "free again", spoil: func(h *Host) { created(h, "listen tcp4 0.0.0.0:9999: bind: address already in use") },
			want: []string{"error port-taken"}, cause: "port-conflict", says: []string{"nothing holds port 9999 now"}},
		{name: "network", spoil: func(h *Host) { created(h, "network abc not found") }, want: []string{"error start-failed"},
			says: []string{"network abc not found", "docker start pp"}},
		{name: "not the network", spoil: func(h *Host) { created(h, `exec: "sh": executable file not found`) }},
		{name: "stopped", spoil: func(h *Host) { stop(h, 137) }, want: []string{"note container-stopped"}, cause: path.CauseContainerNotRunning,
			says: []string{"web does not run", "port 8080", "status 137 3 hours ago", "restart policy is always"}},
		{name: "ended with an error", spoil: func(h *Host) { stop(h, 1) }, want: []string{"warning container-stopped"},
			cause: path.CauseContainerNotRunning, says: []string{"docker logs --tail 50 web"}},
		{name: "memory", spoil: func(h *Host) { stop(h, 137).OOMKilled = true }, want: []string{"warning container-stopped"},
			cause: path.CauseContainerNotRunning, says: []string{"want of memory"}},
		{name: "again and again", spoil: func(h *Host) { stop(h, 1).State = "restarting" }, want: []string{"error container-restarting"},
			cause: path.CauseContainerNotRunning, says: []string{"web ends again and again"}},
		{name: "stopped without ports", spoil: func(h *Host) {
			c := h.Containers[1]
			c.State, c.NS, c.ExitCode = "exited", nil, 1
		}},
	})
}

func TestTakenPort(t *testing.T) {
	for text, want := range map[string]uint16{
		"Bind for 0.0.0.0:8080 failed: port is already allocated":                             8080,
		"Bind for :::8081 failed: port is already allocated":                                  8081,
		"Error starting userland proxy: listen tcp4 0.0.0.0:53: bind: address already in use": 53,
		"Error starting userland proxy: listen udp6 [::]:53: bind: address already in use":    53,
		"failed to bind host port for 127.0.0.1:80:172.17.0.2:80/tcp: address already in use": 0,
		"listen unix /x: bind: address already in use":                                        0,
		"Bind for 0.0.0.0:99999 failed: port is already allocated":                            0,
		"network app not found": 0,
	} {
		if got, ok := takenPort(text); ok && got != want || !ok && want != 0 {
			t.Errorf("%q: got %d %v, want %d", text, got, ok, want)
		}
	}
}

func TestExposure(t *testing.T) {
	db := func(ip string) func(h *Host) {
		return func(h *Host) {
			c := h.Containers[1]
			c.Published = []Port{{HostIP: addr(ip), HostPort: 15432, ContainerPort: 5432, Proto: "tcp"}}
			c.Configured = c.Published
		}
	}
	user := func(h *Host, r ...*firewall.Rule) {
		chain(h.NS.Rules.Tables[0], "X", "") // keeps Chain of the rules apart
		c := h.NS.Rules.Tables[0].Chain("DOCKER-USER")
		for i, r := range r {
			r.Chain, r.Number = c, i+1
		}
		c.Rules = r
	}
	const bypassed = "note firewall-bypassed"
	runIll(t, []ill{
		{name: "database for all", spoil: db("0.0.0.0"), want: []string{"warning database-exposed"},
			says: []string{"db publishes port 5432", "PostgreSQL", "0.0.0.0:15432", "-p 127.0.0.1:15432:5432",
				"iptables -I DOCKER-USER -i eth0 -p tcp -m conntrack --ctorigdstport 15432 --ctdir ORIGINAL -j DROP"}},
		{name: "database over IPv6", spoil: db("::"), want: []string{"warning database-exposed"}, says: []string{"[::]:15432"}},
		{name: "database on a public address", spoil: db("198.51.100.7"), want: []string{"warning database-exposed"}},
		{name: "database on loopback", spoil: db("127.0.0.1")},
		{name: "database on a private address", spoil: db("10.0.0.1")},
		{name: "database behind a rule", spoil: func(h *Host) {
			db("0.0.0.0")(h)
			user(h, dport("-A DOCKER-USER -p tcp --dport 5432 -j DROP", 5432, firewall.Drop))
		}},
		{name: "database beside a rule for another", spoil: func(h *Host) {
			db("0.0.0.0")(h)
			user(h, dport("-A DOCKER-USER -p tcp --dport 80 -j DROP", 80, firewall.Drop))
		}, want: []string{"warning database-exposed"}},
		{name: "nftables backend", spoil: func(h *Host) { db("0.0.0.0")(h); h.Engine.Backend = "nftables" },
			want: []string{"warning database-exposed"}, says: []string{"nft 'add table inet closed", "ct original proto-dst 15432"}},
		{name: "policy of INPUT", spoil: func(h *Host) { h.NS.Rules.Tables[0].Chain("INPUT").Policy = firewall.Drop },
			want: []string{bypassed}, says: []string{"port 8080, which web publishes", "the policy of INPUT", "--ctorigdstport 8080"}},
		{name: "allowed in INPUT", spoil: func(h *Host) {
			c := h.NS.Rules.Tables[0].Chain("INPUT")
			r := dport("-A INPUT -p tcp --dport 8080 -j ACCEPT", 8080, firewall.Accept)
			r.Chain, r.Number, c.Rules, c.Policy = c, 1, []*firewall.Rule{r}, firewall.Drop
		}},
		{name: "closed by its owner too", spoil: func(h *Host) {
			h.NS.Rules.Tables[0].Chain("INPUT").Policy = firewall.Drop
			user(h, dport("-A DOCKER-USER -p tcp --dport 80 -j DROP", 80, firewall.Drop))
		}},
	})
}
