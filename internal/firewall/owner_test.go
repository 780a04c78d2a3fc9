package firewall_test

import (
	"testing"

	fw "github.com/pathtrace/pathtrace/internal/firewall"
)

func TestOwner(t *testing.T) {
	set := rules(
		build(filter,
			text(base("FORWARD", fw.Forward, 0, fw.Drop, yes(to("DOCKER-USER")), yes(to("DOCKER")), no(accept), no(drop), no(drop), no(to("ufw-before-forward")), no(drop)),
				"-A FORWARD -j DOCKER-USER", "-A FORWARD -o br-app -j DOCKER", "-A FORWARD -i br-app ! -o br-app -j ACCEPT",
				"-A FORWARD -i br-app -o br-app -j DROP", "-A FORWARD -i br-mine -o br-mine -j DROP",
				"-A FORWARD -j ufw-before-forward", "-A FORWARD -i br-0123456789ab -o br-0123456789ab -j DROP"),
			chain("DOCKER-USER", yes(drop), no(to("mine")), no(to("ufw-user-forward")), no(to("DOCKER-ISOLATION-STAGE-2"))),
			chain("mine", no(to("deeper"))), chain("deeper", yes(drop)), chain("apart", yes(drop)),
			chain("DOCKER", yes(drop)), chain("DOCKER-ISOLATION-STAGE-2", yes(drop)),
			chain("ufw-user-forward", yes(drop), no(to("called"))), chain("called", yes(drop)), chain("ufw-before-forward"),
			chain("KUBE-FORWARD", yes(drop)), chain("LIBVIRT_FWI", yes(drop)), chain("FWDI_public_deny", yes(drop)),
			chain("FORWARD_IN_ZONES", yes(drop)), chain("IN_house", yes(drop)),
		),
		build(fw.Table{Backend: fw.IptablesLegacy, Family: fw.FamilyIP, Name: "nat"},
			text(base("POSTROUTING", fw.Postrouting, 100, fw.Accept, yes(accept), yes(accept), yes(accept)),
				"-A POSTROUTING -s 172.18.0.0/16 ! -o br-app -j MASQUERADE", "-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE",
				"-A POSTROUTING -s 172.18.0.2/32 -d 172.18.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE")),
		build(fw.Table{Backend: fw.IptablesNFT, Family: fw.FamilyIP, Name: "raw"},
			text(base("PREROUTING", fw.Prerouting, -300, fw.Accept, yes(drop), yes(drop)),
				"-A PREROUTING -d 172.18.0.2/32 ! -i br-app -j DROP", "-A PREROUTING -s 10.0.0.1/32 -j DROP")),
		build(fw.Table{Backend: fw.NFTables, Family: fw.FamilyIP, Name: "docker-bridges"}, chain("filter-forward-in__br-x", yes(drop))),
		build(fw.Table{Backend: fw.NFTables, Family: fw.FamilyInet, Name: "firewalld"}, chain("filter_FORWARD", yes(drop))),
		build(fw.Table{Backend: fw.NFTables, Family: fw.FamilyIP, Name: "libvirt_network"}, chain("guest_input", yes(drop))),
		build(fw.Table{Backend: fw.NFTables, Family: fw.FamilyInet, Name: "mine"}, chain("DOCKER-like", yes(drop))),
	)
	want := map[string][]fw.Owner{
		"FORWARD":                  {"docker", "docker", "docker", "docker", "user", "ufw", "docker"},
		"DOCKER-USER":              {"docker-user", "docker-user", "docker-user", "docker-user"},
		"mine":                     {"docker-user"},
		"deeper":                   {"docker-user"},
		"apart":                    {"user"},
		"DOCKER":                   {"docker"},
		"DOCKER-ISOLATION-STAGE-2": {"docker"},
		"ufw-user-forward":         {"ufw", "ufw"},
		"called":                   {"user"},
		"KUBE-FORWARD":             {"kube-proxy"},
		"LIBVIRT_FWI":              {"libvirt"},
		"FWDI_public_deny":         {"firewalld"},
		"FORWARD_IN_ZONES":         {"firewalld"},
		"IN_house":                 {"user"},
		"POSTROUTING":              {"docker", "user", "docker"},
		"PREROUTING":               {"docker", "user"},
		"filter-forward-in__br-x":  {"docker"},
		"filter_FORWARD":           {"firewalld"},
		"guest_input":              {"libvirt"},
		"DOCKER-like":              {"user"},
	}
	for _, table := range set.Tables {
		for _, c := range table.Chains {
			for i, owner := range want[c.Name] {
				if got := set.Owner(c.Rules[i]); got != owner {
					t.Errorf("%s %d: owner %s, want %s", c.Name, i+1, got, owner)
				}
			}
		}
	}
	forward := set.Tables[0].Chains[0]
	if got := set.OwnerOf(&fw.Candidate{Chain: forward}); got != fw.OwnerUFW {
		t.Errorf("policy: owner %s", got)
	}
}

func TestSettle(t *testing.T) {
	// reading makes a rule set whose DROP rules have the counters given; -1 for none.
	reading := func(counters ...int) (*fw.Ruleset, []fw.Candidate) {
		var list []body
		for range counters {
			list = append(list, maybe(drop, "-m limit"))
		}
		set := rules(build(filter, base("FORWARD", fw.Forward, 0, fw.Accept, list...)))
		for i, n := range counters {
			r := set.Tables[0].Chains[0].Rules[i]
			r.Counted, r.Packets = n >= 0, uint64(max(n, 0))
		}
		return set, set.Walk(packet()).Candidates
	}
	for name, c := range map[string]struct {
		before, after []int
		sure          bool
		want          int
	}{
		"one, no counter":            {[]int{-1}, []int{-1}, false, 0},
		"one, grew":                  {[]int{3}, []int{4}, false, 0},
		"one, stood still":           {[]int{3}, []int{3}, false, -1},
		"second grew":                {[]int{3, 5}, []int{3, 6}, false, 1},
		"both grew":                  {[]int{3, 5}, []int{4, 6}, false, -1},
		"both grew, first is sure":   {[]int{3, 5}, []int{4, 6}, true, 0},
		"first is sure, second grew": {[]int{3, 5}, []int{3, 6}, true, 1},
		"one grew, other uncounted":  {[]int{3, -1}, []int{4, -1}, false, -1},
		"all but the uncounted":      {[]int{3, -1}, []int{3, -1}, false, 1},
		"two uncounted":              {[]int{-1, -1}, []int{-1, -1}, false, -1},
		"counter was reset":          {[]int{3, 5}, []int{0, 6}, false, -1},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := reading(c.before...)
			after, list := reading(c.after...)
			list[0].Sure = c.sure
			if got, _ := fw.Settle(list, before, after); got != c.want {
				t.Errorf("candidate %d, want %d", got, c.want)
			}
		})
	}
	after, list := reading(4, 5)
	if got, _ := fw.Settle(list, nil, after); got != -1 {
		t.Errorf("without a reading before: candidate %d", got)
	}
	if got, _ := fw.Settle(nil, nil, nil); got != -1 {
		t.Errorf("without candidates: %d", got)
	}
}
