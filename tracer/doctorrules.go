package tracer

import "github.com/pathtrace/pathtrace/internal/doctor"

// fillRules reads the firewall rules of a namespace.
func (d *examiner) fillRules(*doctor.Namespace) error { return nil }
