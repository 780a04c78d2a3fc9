package firewall

import "strings"

// Owner says whose a rule is.
type Owner string

// The owners.
const (
	OwnerDocker     Owner = "docker"
	OwnerDockerUser Owner = "docker-user" // the DOCKER-USER chain, which Docker leaves to its user
	OwnerUFW        Owner = "ufw"
	OwnerFirewalld  Owner = "firewalld"
	OwnerKubeProxy  Owner = "kube-proxy"
	OwnerLibvirt    Owner = "libvirt"
	OwnerUser       Owner = "user"
)

// dockerUser is the chain that Docker leaves to its user.
const dockerUser = "DOCKER-USER"

// OwnerOf says whose a candidate is: a rule's, or of a policy who sets it.
func (r *Ruleset) OwnerOf(c *Candidate) Owner {
	if c.Rule != nil {
		return r.Owner(c.Rule)
	}
	return r.policyOwner(c.Chain)
}

// Owner says whose a rule is: by its table, by its chain, by the chain it leads to, by its form, or by
// being reached from DOCKER-USER.
func (r *Ruleset) Owner(q *Rule) Owner {
	t := q.Chain.Table
	if o := t.owner(); o != "" {
		return o
	}
	if o := q.Chain.owner(); o != "" {
		return o
	}
	for _, v := range q.Body.Verdicts() {
		if v.Kind != Jump && v.Kind != Goto {
			continue
		}
		switch o := (&Chain{Table: t, Name: v.Chain}).owner(); {
		case o == OwnerDockerUser:
			return OwnerDocker // Docker itself leads to its user's chain
		case o != "":
			return o
		}
	}
	if q.Chain.IsBase() {
		if t.isXtables() && r.isDockerForm(q) {
			return OwnerDocker
		}
		return OwnerUser
	}
	if r.dockers().reached[t][q.Chain.Name] {
		return OwnerDockerUser
	}
	return OwnerUser
}

// isXtables reports whether the table is one that iptables shows.
func (t *Table) isXtables() bool { return t.Backend != NFTables }

// owner names the program that a table belongs to as a whole, or "".
func (t *Table) owner() Owner {
	switch t.Name {
	case "docker-bridges", "docker-dns":
		return OwnerDocker
	case "firewalld", "firewalld_policy_drop":
		return OwnerFirewalld
	case "kube-proxy":
		return OwnerKubeProxy
	case "libvirt_network":
		return OwnerLibvirt
	}
	return ""
}

// owner names whose a chain of x_tables is by its name, or "".
func (c *Chain) owner() Owner {
	name := c.Name
	switch {
	case !c.Table.isXtables() || c.IsBase():
		return ""
	case name == dockerUser:
		return OwnerDockerUser
	case name == "DOCKER", strings.HasPrefix(name, "DOCKER-"), strings.HasPrefix(name, "DOCKER_"):
		return OwnerDocker
	case strings.HasPrefix(name, "ufw-"), strings.HasPrefix(name, "ufw6-"):
		return OwnerUFW
	case strings.HasPrefix(name, "KUBE-"):
		return OwnerKubeProxy
	case strings.HasPrefix(name, "LIBVIRT_"):
		return OwnerLibvirt
	case isFirewalldChain(name):
		return OwnerFirewalld
	}
	return ""
}

// isFirewalldChain recognises the chains of firewalld's iptables backend (src/firewall/core/ipXtables.py
// of firewalld): INPUT_ZONES, FWD_public_allow, PRE_trusted…
func isFirewalldChain(name string) bool {
	base, rest, ok := strings.Cut(name, "_")
	if !ok {
		return false
	}
	switch base {
	case "INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING":
		switch rest {
		case "direct", "ZONES", "ZONES_SOURCE", "IN_ZONES", "OUT_ZONES", "IN_ZONES_SOURCE", "OUT_ZONES_SOURCE",
			"POLICIES_pre", "POLICIES_post":
			return true
		}
	case "IN", "OUT", "FWD", "FWDI", "FWDO", "PRE", "POST":
		for _, end := range []string{"_pre", "_log", "_deny", "_allow", "_post"} {
			if strings.HasSuffix(rest, end) {
				return true
			}
		}
	}
	return false
}

// dockers is what all rules together say of Docker's part in them. Asking them again for each rule would
// be quadratic: with 5,000 rules the owner of a policy took half a minute.
type dockers struct {
	bridges map[string]bool
	// reached are the chains that are reached from DOCKER-USER, by table.
	reached map[*Table]map[string]bool
}

// dockers asks the rules once.
func (r *Ruleset) dockers() *dockers {
	r.once.Do(func() {
		r.docker = dockers{bridges: r.dockerBridges(), reached: map[*Table]map[string]bool{}}
		for _, t := range r.Tables {
			r.docker.reached[t] = t.reachedFrom(dockerUser)
		}
	})
	return &r.docker
}

// reachedFrom returns the names of the chains that are reached by jumps from another one without passing a
// chain that has an owner of its own.
func (t *Table) reachedFrom(from string) map[string]bool {
	chains := t.byName()
	seen := map[string]bool{from: true}
	for todo := []string{from}; len(todo) > 0; {
		c := chains[todo[0]]
		todo = todo[1:]
		if c == nil {
			continue
		}
		for _, q := range c.Rules {
			for _, v := range q.Body.Verdicts() {
				if v.Kind != Jump && v.Kind != Goto || seen[v.Chain] {
					continue
				}
				seen[v.Chain] = true
				if next := chains[v.Chain]; next != nil && next.owner() == "" {
					todo = append(todo, v.Chain)
				}
			}
		}
	}
	delete(seen, from)
	return seen
}

// policyOwner says who most likely set the policy of a base chain. Docker sets that of FORWARD to
// DROP when it turns forwarding on; so does ufw, which then is the one to ask.
func (r *Ruleset) policyOwner(c *Chain) Owner {
	if o := c.Table.owner(); o != "" {
		return o
	}
	owner := OwnerUser
	for _, q := range c.Rules {
		switch o := r.Owner(q); {
		case o == OwnerUFW, o == OwnerFirewalld:
			return o
		case o == OwnerDocker && c.Table.isXtables() && c.Name == "FORWARD":
			owner = OwnerDocker
		}
	}
	return owner
}

// DockerBridges returns the devices that Docker's own rules treat as its bridges. It is not to be changed.
func (r *Ruleset) DockerBridges() map[string]bool { return r.dockers().bridges }

func (r *Ruleset) dockerBridges() map[string]bool {
	bridges := map[string]bool{}
	for _, t := range r.Tables {
		if t.Name == "docker-bridges" {
			for _, c := range t.Chains {
				if _, dev, ok := strings.Cut(c.Name, "filter-forward-in__"); ok {
					bridges[dev] = true
				}
			}
			continue
		}
		if t.Name != "filter" || !t.isXtables() {
			continue
		}
		for _, c := range t.Chains {
			for _, q := range c.Rules {
				if !leadsToDocker(q) {
					continue
				}
				if dev := flag(strings.Fields(q.Text()), "-o"); dev != "" {
					bridges[dev] = true
				}
			}
		}
	}
	return bridges
}

func leadsToDocker(q *Rule) bool {
	for _, v := range q.Body.Verdicts() {
		if v.Kind == Jump && (v.Chain == "DOCKER" || strings.HasPrefix(v.Chain, "DOCKER-ISOLATION-STAGE-")) {
			return true
		}
	}
	return false
}

// flag returns the word after a flag that is not negated, or "".
func flag(fields []string, name string) string {
	for i := 0; i+1 < len(fields); i++ {
		if fields[i] == name && (i == 0 || fields[i-1] != "!") {
			return fields[i+1]
		}
	}
	return ""
}

// isDockerForm recognises rules that Docker writes into the kernel's own chains.
func (r *Ruleset) isDockerForm(q *Rule) bool {
	bridges := r.DockerBridges()
	var form []string
	known := false
	for _, w := range strings.Fields(q.Text()) {
		switch {
		case bridges[w], isDefaultBridge(w):
			known = true
			w = "BRIDGE"
		case strings.ContainsAny(w, "0123456789") && !strings.HasPrefix(w, "-"):
			w = "N" // an address, a network, a port
		}
		form = append(form, w)
	}
	text := strings.Join(form, " ")
	return known && isBridgeForm(text) || len(bridges) > 0 && isPortForm(text)
}

// isDefaultBridge reports whether Docker names its bridges so unless it is told otherwise.
func isDefaultBridge(dev string) bool {
	id, ok := strings.CutPrefix(dev, "br-")
	return dev == "docker0" || dev == "docker_gwbridge" ||
		ok && len(id) == 12 && strings.Trim(id, "0123456789abcdef") == ""
}

// isBridgeForm recognises what Docker writes for each of its bridges (libnetwork/drivers/bridge).
func isBridgeForm(text string) bool {
	switch text {
	case "-A FORWARD -o BRIDGE -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"-A FORWARD -i BRIDGE ! -o BRIDGE -j ACCEPT",
		"-A FORWARD -i BRIDGE -o BRIDGE -j ACCEPT",
		"-A FORWARD -i BRIDGE -o BRIDGE -j DROP",
		"-A POSTROUTING -s N ! -o BRIDGE -j MASQUERADE",
		"-A POSTROUTING -s N ! -o BRIDGE -j SNAT --to-source N",
		"-A POSTROUTING -o BRIDGE -m addrtype --src-type LOCAL -j MASQUERADE",
		"-A POSTROUTING -o BRIDGE -m addrtype --src-type LOCAL -j SNAT --to-source N",
		"-A PREROUTING -d N ! -i BRIDGE -j DROP":
		return true
	}
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		if text == "-A PREROUTING -d N ! -i BRIDGE -p "+proto+" -m "+proto+" --dport N -j DROP" {
			return true
		}
	}
	return false
}

// isPortForm recognises what Docker writes for a published port without naming a bridge; others may
// write the same, so it counts only where Docker has bridges.
func isPortForm(text string) bool {
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		match := " -p " + proto + " -m " + proto + " --dport N"
		if text == "-A POSTROUTING -s N -d N"+match+" -j MASQUERADE" || text == "-A PREROUTING -d N ! -i lo"+match+" -j DROP" {
			return true
		}
	}
	return false
}
