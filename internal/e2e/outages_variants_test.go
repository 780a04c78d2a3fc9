//go:build e2e

package e2e

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// firewallVariants are firewall outages that the list does not have: other tables, chains, matches,
// protocols and directions. They must get answers of the same kind.
func firewallVariants() []*outage {
	save := func(t *testing.T, s *scene) { s.h.saveRules(t) }
	drop := as(path.Dropped, path.CauseFirewallDrop)
	return []*outage{
		{
			name: "v1", what: "DROP in the raw table",
			do:   []string{"host iptables -w -t raw -I PREROUTING -p tcp --dport 8080 -j DROP"},
			undo: []string{"host iptables -w -t raw -F"},
			from: "OUTSIDE", to: "HOST:8080", right: drop,
			rule: "-A PREROUTING -p tcp -m tcp --dport 8080 -j DROP", owner: "user", container: "host",
		}, {
			name: "v2", what: "DROP of several ports in the mangle table",
			do:   []string{"host iptables -w -t mangle -I FORWARD -o br-app -p tcp -m multiport --dports 80,443 -j DROP"},
			undo: []string{"host iptables -w -t mangle -F"},
			from: "OUTSIDE", to: "HOST:8080", right: drop,
			rule: "-A FORWARD -o br-app -p tcp -m multiport --dports 80,443 -j DROP", owner: "user", container: "host",
		}, {
			name: "v3", what: "DROP of the reply", with: save,
			do:   []string{"host iptables -w -I DOCKER-USER -p tcp --sport 80 -m conntrack --ctstate ESTABLISHED -j DROP"},
			from: "OUTSIDE", to: "HOST:8080", right: drop, direction: path.Reply,
			rule: "-A DOCKER-USER -p tcp -m tcp --sport 80 -m conntrack --ctstate ESTABLISHED -j DROP", owner: "docker-user",
		}, {
			name: "v4", what: "DROP in a chain of the user's", with: save,
			do: []string{
				"host iptables -w -N blocklist", "host iptables -w -A blocklist -s 198.51.100.0/24 -j DROP",
				"host iptables -w -A blocklist -s OUTSIDEADDR/24 -j DROP", "host iptables -w -I DOCKER-USER -j blocklist",
			},
			from: "OUTSIDE", to: "HOST:8080", right: drop, direction: path.Request,
			rule: "-A blocklist -s OUTSIDENET -j DROP",
		}, {
			name: "v5", what: "REJECT with a reset inside the container",
			do:   []string{"in web iptables -w -I INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset"},
			undo: []string{"in web iptables -w -F INPUT"},
			from: "cli", to: "web:80", right: as(path.Refused, path.CauseFirewallReject), container: "web",
			rule: "-A INPUT -p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset", owner: "user",
		}, {
			name: "v6", what: "policy DROP inside the container",
			do: []string{"in web iptables -w -P INPUT DROP"}, undo: []string{"in web iptables -w -P INPUT ACCEPT"},
			from: "cli", to: "web:80", right: as(path.Dropped, "firewall-policy"), container: "web",
		}, {
			name: "v7", what: "DROP of bridged packets", with: save,
			do:   []string{"host iptables -w -I FORWARD -m physdev --physdev-is-bridged -p tcp -j DROP"},
			from: "cli", to: "web:80", right: drop, container: "host",
			rule: "-A FORWARD -p tcp -m physdev --physdev-is-bridged -j DROP", owner: "user",
		}, {
			name: "v8", what: "DROP of what another rule marked", with: save,
			do: []string{
				"host iptables -w -t mangle -I PREROUTING -p tcp --dport 8080 -j MARK --set-mark 7",
				"host iptables -w -I DOCKER-USER -m mark --mark 7 -j DROP",
			},
			undo: []string{"host iptables -w -t mangle -F"},
			from: "OUTSIDE", to: "HOST:8080", right: drop, container: "host",
			rule: "-A DOCKER-USER -m mark --mark 0x7 -j DROP", owner: "docker-user",
		}, {
			name: "v9", what: "DROP of what is above a rate", with: save,
			do: []string{
				"host iptables -w -I DOCKER-USER -p tcp --dport 80 -j DROP",
				"host iptables -w -I DOCKER-USER -p tcp --dport 80 -m limit --limit 1/hour --limit-burst 1 -j LOG",
			},
			from: "OUTSIDE", to: "HOST:8080", right: drop, container: "host",
			rule: "-A DOCKER-USER -p tcp -m tcp --dport 80 -j DROP", owner: "docker-user",
		}, {
			name: "v10", what: "the second of two rules alike", with: save,
			do: []string{
				"host iptables -w -I DOCKER-USER -p tcp --dport 80 -m statistic --mode random --probability 1 -j DROP",
				"host iptables -w -I DOCKER-USER -p tcp --dport 80 -m statistic --mode nth --every 1000 --packet 999 -j DROP",
			},
			from: "OUTSIDE", to: "HOST:8080", right: drop, container: "host", owner: "docker-user",
		}, {
			name: "v11", what: "a datagram", made: true, with: save, proto: "udp",
			do: []string{
				"run dns --network app -p 5353:53/udp -- udp :53",
				"host iptables -w -I DOCKER-USER -p udp -m udp --dport 53 -j DROP",
			},
			from: "OUTSIDE", to: "HOST:5353", right: drop, container: "host",
			rule: "-A DOCKER-USER -p udp -m udp --dport 53 -j DROP", owner: "docker-user",
		}, {
			name: "v12", what: "an echo request", made: true, with: save,
			do:   []string{"host iptables -w -I DOCKER-USER -p icmp -m icmp --icmp-type 8 -j DROP"},
			from: "cli", to: "PEER", proto: "icmp", right: drop, container: "host",
			rule: "-A DOCKER-USER -p icmp -m icmp --icmp-type 8 -j DROP", owner: "docker-user",
		}, {
			name: "v13", what: "a set of nftables",
			do: []string{
				"host nft add table inet fw", "host nft add set inet fw blocked { type ipv4_addr; }",
				"host nft add element inet fw blocked { OUTSIDEADDR }",
				"host nft add chain inet fw f { type filter hook forward priority -5; }",
				"host nft add rule inet fw f ip saddr @blocked counter drop",
			},
			undo: []string{"host nft delete table inet fw"},
			from: "OUTSIDE", to: "HOST:8080", right: drop, container: "host",
			rule: "ip saddr @blocked counter drop", owner: "user",
		}, {
			name: "v14", what: "a policy of nftables",
			do: []string{
				"host nft add table inet fw",
				"host nft add chain inet fw f { type filter hook forward priority 10; policy drop; }",
				"host nft add rule inet fw f tcp dport 443 accept",
			},
			undo: []string{"host nft delete table inet fw"},
			from: "OUTSIDE", to: "HOST:8080", right: as(path.Dropped, "firewall-policy"), container: "host",
		}, {
			name: "v15", what: "a netdev chain on the host's device",
			do: []string{
				"host nft add table netdev fw",
				"host nft add chain netdev fw in { type filter hook ingress device eth0 priority 0; }",
				"host nft add rule netdev fw in tcp dport 8080 counter drop",
			},
			undo: []string{"host nft delete table netdev fw"},
			from: "OUTSIDE", to: "HOST:8080", right: drop, container: "host",
			rule: "tcp dport 8080 counter drop", owner: "user",
		}, {
			name: "v16", what: "DROP in the source's output",
			do: []string{"in cli iptables -w -I OUTPUT -p tcp --dport 80 -j DROP"}, undo: []string{"in cli iptables -w -F OUTPUT"},
			from: "cli", to: "web:80", right: drop, container: "cli",
			rule: "-A OUTPUT -p tcp -m tcp --dport 80 -j DROP", owner: "user",
		}, {
			name: "v17", what: "the host's own input", made: true, with: save,
			do:   []string{"host iptables -w -I INPUT -p tcp --dport 9000 -j DROP"},
			from: "cli", to: "HOST:9000", right: drop, container: "host", direction: path.Request,
			rule: "-A INPUT -p tcp -m tcp --dport 9000 -j DROP", owner: "user",
		}, {
			name: "v18", what: "only half of the jumps is gone", with: save,
			do:   []string{"host iptables -w -D FORWARD -o br-app -j DOCKER"},
			from: "OUTSIDE", to: "HOST:8080", right: as(path.Dropped, "docker-rules-missing"), container: "host",
		}, {
			name: "v19", what: "one DNAT rule is gone, without proxy for that address", with: save,
			do:   []string{"host iptables -w -t nat -F DOCKER"},
			from: "OUTSIDE", to: "web:8080", right: warned(path.CauseNATMissing),
		}, {
			name: "v20", what: "a netdev chain on the way out",
			do: []string{
				"host nft add table netdev fw",
				"host nft add chain netdev fw out { type filter hook egress device eth0 priority 0; }",
				"host nft add rule netdev fw out tcp sport 8080 counter drop",
			},
			undo: []string{"host nft delete table netdev fw"},
			from: "OUTSIDE", to: "HOST:8080", right: drop, container: "host", direction: path.Reply,
			rule: "tcp sport 8080 counter drop", owner: "user",
		}, {
			name: "v21", what: "no tracking, so no DNAT: the proxy answers",
			do:   []string{"host iptables -w -t raw -I PREROUTING -p tcp --dport 8080 -j CT --notrack"},
			undo: []string{"host iptables -w -t raw -F"},
			from: "OUTSIDE", to: "HOST:8080", right: warned(path.CauseNATMissing),
		}, {
			name: "v22", what: "exempted from MASQUERADE", made: true, with: save,
			do:   []string{"host iptables -w -t nat -I POSTROUTING -s SUBNET -d OUTSIDENET -j RETURN"},
			from: "cli", to: "PEER:8080", right: answer{outcomes: failed, causes: []path.Cause{path.CauseMasqueradeMissing}},
			rule: "-A POSTROUTING -s SUBNET -d OUTSIDENET -j RETURN", owner: "user",
		}, {
			name: "v23", what: "the reply is not tracked",
			do:   []string{"host iptables -w -t raw -I PREROUTING -s SUBNET -p tcp --sport 80 -j CT --notrack"},
			undo: []string{"host iptables -w -t raw -F"},
			from: "OUTSIDE", to: "HOST:8080", right: answer{outcomes: failed, causes: []path.Cause{path.CauseConntrackInvalid}},
			direction: path.Reply, rule: "-A PREROUTING -s SUBNET -p tcp -m tcp --sport 80 -j CT --notrack", owner: "user",
		}, {
			name: "v24", what: "DROP inside the container, which is asked for by the host's address",
			do: []string{"in web iptables -w -I INPUT -p tcp --dport 80 -j DROP"}, undo: []string{"in web iptables -w -F INPUT"},
			from: "OUTSIDE", to: "HOST:8080", right: drop, container: "web",
			rule: "-A INPUT -p tcp -m tcp --dport 80 -j DROP", owner: "user",
		}, {
			name: "v25", what: "nothing listens, and the reset is dropped", made: true, with: save,
			do: []string{
				"run nl --network app -p 8081:81 -- idle",
				"host iptables -w -I DOCKER-USER -p tcp -m tcp --tcp-flags RST RST -j DROP",
			},
			from: "OUTSIDE", to: "HOST:8081", right: as(path.Dropped, path.CauseNotListening), container: "nl",
		}, {
			name: "v26", what: "a more specific route out of the host",
			do:   []string{"host ip route add WEB/32 via OUTSIDEADDR"},
			undo: []string{"host ip route del WEB/32"},
			from: "OUTSIDE", to: "HOST:8080", right: answer{outcomes: failed, causes: []path.Cause{path.CauseSubnetOverlap}},
			container: "host",
		}, {
			name: "v27", what: "policy routing sends it out of the host",
			do:   []string{"host ip route add default via OUTSIDEADDR table 98", "host ip rule add from OUTSIDEADDR lookup 98"},
			undo: []string{"host ip rule del from OUTSIDEADDR lookup 98", "host ip route flush table 98"},
			from: "OUTSIDE", to: "HOST:8080", right: answer{outcomes: failed, causes: []path.Cause{path.CauseNoRoute}},
			container: "host",
		}, {
			name: "v28", what: "a queue that no program reads", with: save,
			do:   []string{"host iptables -w -I DOCKER-USER -p tcp --dport 80 -j NFQUEUE --queue-num 7"},
			from: "OUTSIDE", to: "HOST:8080", right: drop, container: "host",
			rule: "-A DOCKER-USER -p tcp -m tcp --dport 80 -j NFQUEUE --queue-num 7", owner: "docker-user",
		},
	}
}
