package diagnose

import "github.com/pathtrace/pathtrace/internal/expect"

// Expected is what came of comparing a host's firewall with the rules that its Docker engine should
// have made.
type Expected struct {
	// Missing are the rules that are not there.
	Missing []expect.Missing
	// Networks are the engine's, those with the bridge driver.
	Networks []expect.Network
	// Assumed is set if how the engine was started could not be read: it may have been told to make
	// no rules.
	Assumed bool
	// NoIPv6 is set if the engine makes no rules for IPv6.
	NoIPv6 bool
	// LiveRestore is set if containers outlive a restart of the engine.
	LiveRestore bool
	// Since says what may have taken the rules away, and when: "firewalld was started at ..."; "" if
	// that is not known.
	Since string
}
