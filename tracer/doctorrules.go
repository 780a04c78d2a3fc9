package tracer

import (
	"fmt"

	"github.com/pathtrace/pathtrace/internal/doctor"
)

// fillRules reads the firewall rules of a namespace.
func (d *examiner) fillRules(ns *doctor.Namespace) error {
	ns.Rules = d.rules.after(ns.Inode, 0)
	if ns.Rules == nil {
		return fmt.Errorf("firewall rules could not be read")
	}
	if ns.Host && len(ns.Rules.Problems) > 0 {
		return fmt.Errorf("firewall rules: %s", ns.Rules.Problems[0])
	}
	return nil
}
