package diagnose

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// TestDeleteRule: what is printed is read by a shell, and then by iptables.
func TestDeleteRule(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"-A DOCKER-USER ! -i br-app -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
			"iptables -D DOCKER-USER ! -i br-app -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"},
		{`-A DOCKER-USER -m comment --comment "it\'s \"odd\" \\ here" -j DROP`,
			`iptables -D DOCKER-USER -m comment --comment 'it'\''s "odd" \ here' -j DROP`},
		{`-A DOCKER-USER -m comment --comment "$(reboot)" -j DROP`,
			`iptables -D DOCKER-USER -m comment --comment '$(reboot)' -j DROP`},
		{"-A DOCKER-USER -m comment --comment `reboot` -j DROP",
			"iptables -D DOCKER-USER -m comment --comment '`reboot`' -j DROP"},
		{`-A DOCKER-USER -j LOG --log-prefix ""`, `iptables -D DOCKER-USER -j LOG --log-prefix ''`},
		{"-A DOCKER-USER -m recent --set --name z --mask 255.255.255.255 --rsource -j DROP", "iptables -D DOCKER-USER 3"},
		{"-A DOCKER-USER -p tcp -m connlimit --connlimit-above 0 --connlimit-mask 32 --connlimit-saddr -j DROP",
			"iptables -D DOCKER-USER 3"},
	} {
		chain := &firewall.Chain{Name: "DOCKER-USER", Table: &firewall.Table{Name: "filter", Backend: firewall.IptablesNFT}}
		got := deleteRule(&firewall.Candidate{Chain: chain, Rule: &firewall.Rule{Chain: chain, Number: 3, Written: c.text}}, "iptables", "")
		if got, _, _ = strings.Cut(got, "  # "); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, c.want)
		}
	}
}
