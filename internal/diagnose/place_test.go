package diagnose

import "testing"

func TestOnHost(t *testing.T) {
	const reach = "ssh root@h2"
	for _, c := range []struct{ host, reach, cmd, want string }{
		{"", "", "ip link  # all of them", "ip link  # all of them"},
		{"h2", "", "ip link", "ip link  # on h2"},
		{"h2", "", "ip link  # all of them", "ip link  # on h2; all of them"},
		{"h2", reach, "ip link", "ssh root@h2 'ip link'"},
		{"h2", reach, "ip link # all of them", "ssh root@h2 'ip link'  # all of them"},
		{"h2", reach, "iptables -A FORWARD -m comment --comment 'a  # b' -j DROP  # for all",
			`ssh root@h2 'iptables -A FORWARD -m comment --comment '\''a  # b'\'' -j DROP'  # for all`},
	} {
		if got := OnHost(c.host, c.reach, c.cmd); got != c.want {
			t.Errorf("%q on %q by %q:\nwant %s\n got %s", c.cmd, c.host, c.reach, c.want, got)
		}
	}
}
