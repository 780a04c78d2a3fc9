package render

// HookRow is one row of the table of hooks.
type HookRow struct {
	Type string `json:"type"` // always "hook"
	// Name as in path.Hop.Hook and the statistics.
	Name string `json:"name"`
	// Sees says what the hook sees.
	Sees string `json:"sees"`
	// Kind is the kind of attachment in use ("tp_btf", "netfilter link"), "-" if none.
	Kind string `json:"kind"`
	// Attached tells whether the hook is in use.
	Attached bool `json:"attached"`
	// Status is "attached" or why it is not.
	Status string `json:"status"`
	// Unseen says what is not seen without the hook.
	Unseen string `json:"unseen"`
}

// Hooks writes the table of hooks as text.
func Hooks(o Options, rows []HookRow) error {
	return nil
}
