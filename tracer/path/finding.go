package path

// Severity says how bad a finding of doctor is.
type Severity string

// The severities, worst first.
const (
	// SeverityError: something is broken now.
	SeverityError Severity = "error"
	// SeverityWarning: something will break, works by accident only, or is exposed.
	SeverityWarning Severity = "warning"
	// SeverityNote: something that surprises people, or that was perhaps not meant.
	SeverityNote Severity = "note"
)

// Finding is one thing that doctor found in a host's network set-up.
type Finding struct {
	Type     string   `json:"type"` // always "finding"
	Severity Severity `json:"severity"`
	// Check is the stable name of what was checked, such as "port-nothing-listens".
	Check string `json:"check"`
	// Cause is the cause that a flow would be lost to, where one fits.
	Cause Cause `json:"cause,omitempty"`
	// Summary is one sentence.
	Summary string `json:"summary"`
	Where   *Place `json:"where,omitempty"`
	// Evidence lists facts that were read.
	Evidence []string `json:"evidence,omitempty"`
	// Remedy lists commands or steps.
	Remedy []string `json:"remedy,omitempty"`
}

// Place is what a finding is about, as far as it fits.
type Place struct {
	Host      string `json:"host,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Container string `json:"container,omitempty"`
	Network   string `json:"network,omitempty"`
	Device    string `json:"device,omitempty"`
	Rule      *Rule  `json:"rule,omitempty"`
}
