//go:build e2e

package e2e

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// ailment is something that doctor must find, and nothing else of the same severity or worse.
type ailment struct {
	name     string
	do, undo []string // see scene.command
	with     func(t *testing.T, s *scene)
	check    string
	severity path.Severity
	cause    path.Cause
	// says must be in the sentence, the evidence or the remedy.
	says []string
	// also are checks that may be found beside it.
	also []string
	// gap says what is not found yet.
	gap string
}

// ailments are what TestDoctor makes a host suffer from, one after the other.
func ailments() []ailment {
	const wrongNeighbour, duplicate = path.Cause("wrong-neighbour"), path.Cause("duplicate-address")
	const isolation, unresolved = path.Cause("network-isolation"), path.Cause("name-not-resolved")
	rules := func(t *testing.T, s *scene) { s.h.saveRules(t) }
	return []ailment{
		{
			name: "a1", with: rules, do: []string{"host iptables -w -t nat -F"},
			check: "nat-missing", severity: path.SeverityWarning, cause: path.CauseNATMissing,
			says: []string{"8080", "docker-proxy", "restart docker"}, also: []string{"masquerade-missing"},
		}, {
			name: "a2", with: rules, do: []string{"host iptables -w -F DOCKER"},
			check: "docker-rules-missing", severity: path.SeverityError, cause: "docker-rules-missing",
			says: []string{"port 80 of web", "-A DOCKER", "restart docker"},
		}, {
			name: "d", with: rules, do: []string{"host iptables -w -t nat -D POSTROUTING -s SUBNET ! -o br-app -j MASQUERADE"},
			check: "masquerade-missing", severity: path.SeverityError, cause: "masquerade-missing",
			says: []string{"SUBNET", "MASQUERADE", "iptables -t nat -A POSTROUTING"},
		}, {
			name: "e", do: []string{"host sysctl -qw net.ipv4.ip_forward=0"}, undo: []string{"host sysctl -qw net.ipv4.ip_forward=1"},
			check: "forwarding-off", severity: path.SeverityError, cause: path.CauseForwardingOff,
			says: []string{"web", "sysctl -w net.ipv4.ip_forward=1"},
		}, {
			name: "g", do: []string{"run gg --network app -p 8081:80 -- tcp 127.0.0.1:80"}, undo: []string{"docker rm -f gg"},
			check: "port-on-loopback", severity: path.SeverityError, cause: path.CauseListeningOnLoopback,
			says: []string{"8081", "gg", "0.0.0.0:80"},
		}, {
			name: "h1", do: []string{"run gg --network app -p 8081:80 -- idle"}, undo: []string{"docker rm -f gg"},
			check: "port-nothing-listens", severity: path.SeverityError, cause: path.CauseNotListening,
			says: []string{"8081", "port 80 of gg", "listens on no tcp port"},
		}, {
			name: "h3", do: []string{"run gg --network app -p 8081:8000 -- tcp :80"}, undo: []string{"docker rm -f gg"},
			check: "port-nothing-listens", severity: path.SeverityError, cause: path.CauseNotListening,
			says: []string{"8081", "8000", "gg listens on tcp port 80", "-p 8081:80 instead of -p 8081:8000"},
		}, {
			name: "h5", do: []string{"docker kill web"}, undo: []string{"docker start web"},
			check: "container-stopped", severity: path.SeverityNote, cause: path.CauseContainerNotRunning,
			says: []string{"web", "8080", "status 137", "docker -H unix://", "start web"},
		}, {
			name: "i", with: func(t *testing.T, s *scene) {
				if err := s.h.docker("run", "-d", "--name", "pp", "--network", "app", "-p", "8080:80", image, "tcp", ":80"); err == nil {
					t.Fatal("a port was published twice")
				}
			}, undo: []string{"docker rm -f pp"},
			check: "port-taken", severity: path.SeverityError, cause: "port-conflict",
			says: []string{"pp", "8080", "web publishes port 8080", "already allocated"},
		}, {
			name: "k", do: []string{"run dup --network app -- idle", "in dup ip addr add WEB/16 dev eth0"}, undo: []string{"docker rm -f dup"},
			check: "duplicate-address", severity: path.SeverityError, cause: duplicate,
			says: []string{"WEB", "dup and web", "network app", "ip addr del WEB/16 dev eth0"},
		}, {
			name: "l1", with: func(t *testing.T, s *scene) {
				dev := s.web.veth()
				s.h.do(t, "ip", "link", "set", dev, "down")
				t.Cleanup(func() { s.h.do(t, "ip", "link", "set", dev, "up") })
			},
			check: "veth-down", severity: path.SeverityError, cause: path.CauseLinkDown, says: []string{"web", "network app", "ip link set veth"},
		}, {
			name: "l2", do: []string{"in web ip link set eth0 down"},
			undo:  []string{"in web ip link set eth0 up", "in web ip route add default via 172.30.0.1"},
			check: "container-device-down", severity: path.SeverityError, cause: path.CauseLinkDown,
			says: []string{"web", "network app", "ip link set eth0 up"}, also: []string{"no-default-route"},
		}, {
			name: "l3", do: []string{"host ip link set br-app down"}, undo: []string{"host ip link set br-app up"},
			check: "bridge-down", severity: path.SeverityError, cause: path.CauseLinkDown, says: []string{"network app", "ip link set br-app up"},
		}, {
			name: "not bridged", with: func(t *testing.T, s *scene) {
				dev := s.web.veth()
				s.h.do(t, "ip", "link", "set", dev, "nomaster")
				t.Cleanup(func() { s.h.do(t, "ip", "link", "set", dev, "master", "br-app") })
			},
			check: "not-bridged", severity: path.SeverityError, cause: "not-bridged", says: []string{"web", "master br-app"},
		}, {
			name: "m1", do: []string{"host ip neigh replace WEB lladdr 02:42:ac:12:00:99 dev br-app nud permanent"},
			undo:  []string{"host ip neigh del WEB dev br-app"},
			check: "wrong-neighbour", severity: path.SeverityError, cause: wrongNeighbour,
			says: []string{"web (WEB)", "02:42:ac:12:00:99", "ip neigh del WEB dev br-app"},
		}, {
			name: "n1", do: []string{
				"host iptables -w -I DOCKER-USER -i br-app -o br-app -p tcp --dport 80 -j DROP",
				"host sysctl -qw net.bridge.bridge-nf-call-iptables=0",
			}, undo: []string{
				"host iptables -w -D DOCKER-USER 1", "host sysctl -qw net.bridge.bridge-nf-call-iptables=1",
			},
			check: "bridge-netfilter-off", severity: path.SeverityWarning, cause: "bridge-netfilter-off",
			says: []string{"-A DOCKER-USER -i br-app -o br-app -p tcp", "sysctl -w net.bridge.bridge-nf-call-iptables=1"},
		}, {
			name: "o", do: []string{"host ip route add 198.18.0.0/24 dev br-app", "host sysctl -qw net.ipv4.conf.all.rp_filter=1"},
			undo:  []string{"host ip route del 198.18.0.0/24 dev br-app", "host sysctl -qw net.ipv4.conf.all.rp_filter=0"},
			check: "strict-reverse-path", severity: path.SeverityWarning, cause: path.CauseReversePathFilter,
			says: []string{"198.18.0.0/24", "br-app", "eth0"},
		}, {
			name: "q", do: []string{"in web ip route del default"}, undo: []string{"in web ip route add default via 172.30.0.1"},
			check: "no-default-route", severity: path.SeverityError, cause: path.CauseNoRoute,
			says: []string{"web", "8080", "ip route add default via 172.30.0.1"},
		}, {
			name: "r1", do: []string{"run dbw -- tcp :80", "run dbc -- idle"}, undo: []string{"docker rm -f dbw dbc"},
			check: "default-bridge-names", severity: path.SeverityNote, cause: unresolved, says: []string{"dbc and dbw"},
		}, {
			name: "r2", do: []string{"in cli iptables -w -t nat -F"}, undo: []string{"docker restart -t 0 cli"},
			check: "dns-rules-missing", severity: path.SeverityError, cause: unresolved, says: []string{"cli", "127.0.0.11"},
		}, {
			name: "z5", do: []string{"docker network create --internal inside", "run ia --network inside -p 8082:80 -- tcp :80"},
			undo:  []string{"docker rm -f ia", "docker network rm inside"},
			check: "port-not-published", severity: path.SeverityWarning, cause: isolation, says: []string{"ia", "8082", "inside", "internal"},
		}, {
			name: "aa8", do: []string{"docker network disconnect app web"}, undo: []string{"docker network connect app web"},
			check: "port-not-published", severity: path.SeverityWarning, cause: path.CauseNoSharedNetwork,
			says: []string{"web", "attached to no network", "network connect app web"},
		}, {
			name: "aa8 without ports", do: []string{"docker network disconnect app cli"}, undo: []string{"docker network connect app cli"},
			check: "container-without-network", severity: path.SeverityWarning, cause: path.CauseNoSharedNetwork,
			says: []string{"cli", "network connect app cli"},
		}, {
			name: "j2", do: []string{"host ip link set eth0 mtu 1400"}, undo: []string{"host ip link set eth0 mtu 1500"},
			check: "mtu-above-uplink", severity: path.SeverityWarning, cause: path.CausePacketTooBig,
			says: []string{"network app", "1500", "1400", "mtu=1400"},
		}, {
			name: "subnet", do: []string{"host ip addr add 172.30.77.1/24 dev eth0"}, undo: []string{"host ip addr del 172.30.77.1/24 dev eth0"},
			check: "subnet-overlap", severity: path.SeverityError, cause: "subnet-overlap",
			says: []string{"network app", "172.30.0.0/16", "172.30.77.0/24", "eth0"},
		}, {
			name: "database", do: []string{"run db --network app -p 15432:5432 -- tcp :5432"}, undo: []string{"docker rm -f db"},
			check: "database-exposed", severity: path.SeverityWarning,
			says: []string{"db", "PostgreSQL", "0.0.0.0:15432", "-p 127.0.0.1:15432:5432", "--ctorigdstport 15432"},
		}, {
			name: "input closed", do: []string{"host iptables -w -I INPUT -i eth0 -p tcp --dport 8080 -j DROP"},
			undo:  []string{"host iptables -w -D INPUT -i eth0 -p tcp --dport 8080 -j DROP"},
			check: "firewall-bypassed", severity: path.SeverityNote, says: []string{"8080", "web", "a rule of INPUT", "-I DOCKER-USER -i eth0"},
		}, {
			name: "ufw", with: rules, do: []string{
				"host iptables -w -N ufw-before-input", "host iptables -w -N ufw-user-input",
				"host iptables -w -A ufw-before-input -i lo -j ACCEPT",
				"host iptables -w -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
				"host iptables -w -A ufw-before-input -m conntrack --ctstate INVALID -j DROP",
				"host iptables -w -A ufw-before-input -j ufw-user-input",
				"host iptables -w -A ufw-user-input -p tcp --dport 22 -j ACCEPT",
				"host iptables -w -A INPUT -j ufw-before-input", "host iptables -w -P INPUT DROP",
			},
			check: "firewall-bypassed", severity: path.SeverityNote, says: []string{"8080", "web", "ufw shows it as closed", "-I DOCKER-USER -i eth0"},
		}, {
			name: "iptables off", with: func(t *testing.T, s *scene) {
				s.restart(t, "--iptables=false")
				t.Cleanup(func() { s.restart(t) })
			},
			check: "docker-iptables-off", severity: path.SeverityWarning, cause: "docker-rules-missing", says: []string{"iptables is false"},
			also: []string{"nat-missing"},
		}, {
			name: "two backends", do: []string{"host iptables-legacy -w -I INPUT -p tcp --dport 9 -j DROP"},
			undo:  []string{"host iptables-legacy -w -D INPUT 1"},
			check: "two-iptables-backends", severity: path.SeverityWarning, says: []string{"iptables-legacy"},
		}, {
			name: "paused", do: []string{"docker pause web"}, undo: []string{"docker unpause web"},
			check: "container-paused", severity: path.SeverityWarning, cause: path.CauseContainerPaused, says: []string{"web", "8080", "unpause web"},
		},
	}
}
