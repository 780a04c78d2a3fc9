package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// firewallService is a service that writes firewall rules and removes others' when it starts.
type firewallService struct {
	unit string
	// wipes says from files whether its start removes Docker's rules, with the fact that says so.
	wipes func(files map[string]string) (fact string, yes bool)
	// mend is how to make it leave Docker's rules alone.
	mend []string
}

func firewallServices() []firewallService {
	return []firewallService{
		{
			unit: "nftables.service",
			wipes: func(files map[string]string) (string, bool) {
				return "/etc/nftables.conf says flush ruleset, which removes the rules of every program",
					slices.ContainsFunc(statements(files["/etc/nftables.conf"]), func(s string) bool { return strings.HasPrefix(s, "flush ruleset") })
			},
			mend: []string{"replace flush ruleset in /etc/nftables.conf by a flush of its own tables only"},
		},
		{
			unit: "netfilter-persistent.service",
			wipes: func(files map[string]string) (string, bool) {
				_, saved := files["/etc/iptables/rules.v4"]
				keeps := setting(files["/etc/default/netfilter-persistent"], "IPTABLES_RESTORE_NOFLUSH") == "yes"
				return "it restores /etc/iptables/rules.v4, which replaces all rules of the tables in it", saved && !keeps
			},
			mend: []string{"echo IPTABLES_RESTORE_NOFLUSH=yes >> /etc/default/netfilter-persistent  # and keep no Docker rules in rules.v4"},
		},
		{
			unit: "iptables.service",
			wipes: func(files map[string]string) (string, bool) {
				_, saved := files["/etc/sysconfig/iptables"]
				return "it restores /etc/sysconfig/iptables, which replaces all rules of the tables in it", saved
			},
		},
		{
			unit: "ufw.service",
			wipes: func(files map[string]string) (string, bool) {
				return "/etc/default/ufw says MANAGE_BUILTINS=yes: ufw then flushes the built-in chains, Docker's jumps with them",
					setting(files["/etc/default/ufw"], "MANAGE_BUILTINS") == "yes"
			},
			mend: []string{"sed -i s/^MANAGE_BUILTINS=yes/MANAGE_BUILTINS=no/ /etc/default/ufw"},
		},
		{
			unit: "firewalld.service",
			// dockerd notices when firewalld reloads, but only one that runs before it starts.
			wipes: func(files map[string]string) (string, bool) {
				return "docker.service is not ordered after firewalld.service: started first, Docker's rules are lost when firewalld starts",
					!slices.Contains(ordering(files, "After"), "firewalld.service")
			},
		},
	}
}

// serviceChecks finds firewall services whose next restart removes Docker's rules.
func serviceChecks(h *Host) []finding {
	if h.Services == nil || h.Engine.State == EngineNone || h.Engine.SettingsKnown && !h.Engine.IPTables {
		return nil
	}
	files := h.Services.Files
	var out []finding
	for _, s := range firewallServices() {
		enabled, active := slices.Contains(h.Services.Enabled, s.unit), slices.Contains(h.Services.Active, s.unit)
		fact, yes := s.wipes(files)
		if !enabled && !active || !yes || restartsDocker(files, s.unit) {
			continue
		}
		state := s.unit + " is active"
		if enabled {
			state = s.unit + " starts with the host"
		}
		f := finding{Finding: path.Finding{
			Severity: path.SeverityWarning, Check: "rules-wiped-on-restart", Cause: path.CauseDockerRulesMissing,
			Summary: fmt.Sprintf("a restart of %s removes Docker's firewall rules, until dockerd is restarted too",
				strings.TrimSuffix(s.unit, ".service")),
			Evidence: []string{state, fact, "docker.service is not restarted with it (no PartOf=" + s.unit + ")"},
			Remedy: append(slices.Clone(s.mend),
				fmt.Sprintf("mkdir -p /etc/systemd/system/docker.service.d && printf '[Unit]\\nAfter=%s\\nPartOf=%s\\n' > /etc/systemd/system/docker.service.d/firewall.conf && systemctl daemon-reload"+
					"  # restarts docker with it", s.unit, s.unit)),
		}}
		out = append(out, f)
	}
	return out
}

// restartsDocker reports whether docker.service is restarted with a unit (systemd.unit(5)).
func restartsDocker(files map[string]string, unit string) bool {
	for _, key := range []string{"PartOf", "Requires", "BindsTo"} {
		if slices.Contains(ordering(files, key), unit) {
			return true
		}
	}
	return false
}

// ordering lists the units that docker.service, with its drop-ins, names in an option.
func ordering(files map[string]string, key string) []string {
	var out []string
	for name, text := range files {
		if !strings.HasSuffix(name, "/docker.service") && !strings.Contains(name, "/docker.service.d/") {
			continue
		}
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
				out = append(out, strings.Fields(value)...)
			}
		}
	}
	return out
}

// statements splits the text of a rule file, without comments.
func statements(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, s := range strings.Split(line, ";") {
			if s = strings.Join(strings.Fields(s), " "); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

// setting reads a shell variable of a file in /etc/default, in lower case.
func setting(text, name string) string {
	value := ""
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			value = strings.ToLower(strings.Trim(v, `"'`))
		}
	}
	return value
}
