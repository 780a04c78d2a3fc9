package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// JSON replaces what is in the strings of a JSON value. What a string is, is told by the key that it is
// under and by the keys around it: "Container" is a name, "Text" a rule. All else is taken for text, in
// which addresses and known names are replaced.
func (m *Map) JSON(raw []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("redact: %w", err)
	}
	m.walk(v, "", "", true)
	out, err := json.Marshal(m.walk(v, "", "", false))
	if err != nil {
		return nil, fmt.Errorf("redact: %w", err)
	}
	return out, nil
}

// walk returns v with what is to be replaced replaced. The first walk over a value learns its names only:
// a text may come before the name that is in it.
func (m *Map) walk(v any, around, key string, learn bool) any {
	switch x := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, inner := range x {
			name := k
			if len(k) > 0 && k[0] >= '0' && k[0] <= '9' {
				name = key // an inode
			}
			if strings.EqualFold(key, "sysctls") && !learn {
				k = m.Text(k) // it has the name of a device in it
			}
			out[k] = m.walk(inner, key, name, learn)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, inner := range x {
			out[i] = m.walk(inner, around, key, learn)
		}
		return out
	case string:
		return m.string(x, strings.ToLower(around), strings.ToLower(key), learn)
	}
	return v
}

// string replaces a string under a key.
func (m *Map) string(s, around, key string, learn bool) string {
	class := classOf(around, key)
	switch class {
	case classKept:
		return s
	case classDevice:
		return m.Device(s)
	case classRule, classComment, classText:
		if learn {
			return s
		}
	}
	switch class {
	case classRule:
		return m.Rule(s)
	case classComment:
		return m.Comment(s)
	case classText:
		return m.Text(s)
	case classLabel:
		return m.Label(s)
	case classChain:
		return m.Chain(s)
	}
	return m.Name(class, s)
}

// Label replaces a name as people write it: "project/web", "web:80", or an address.
func (m *Map) Label(s string) string {
	if out, ok := m.whole(s); ok {
		return out
	}
	if name, port, ok := strings.Cut(s, ":"); ok && !strings.Contains(port, ":") {
		return m.Label(name) + ":" + port
	}
	if kind, name, ok := strings.Cut(s, " "); ok {
		return kind + " " + m.Label(name) // "container web", "overlay net"
	}
	if project, service, ok := strings.Cut(s, "/"); ok {
		return m.Label(project) + "/" + m.Label(service)
	}
	return m.Name("name", s)
}

// Classes of strings; others are those of Map.Name.
const (
	classKept    = "kept"
	classText    = "text"
	classRule    = "rule"
	classComment = "comment"
	classDevice  = "device"
	classLabel   = "label"
	classChain   = "chain"
)

// classOf says what a string is, by its key and the key of the object it is in, in lower case.
func classOf(around, key string) string {
	switch key {
	case "device", "bridge", "dev", "devices", "in_device", "out_device", "in", "notin", "out", "notout":
		return classDevice
	case "container", "rivals", "servicecontainer", "joined", "sharers":
		return "container"
	case "network":
		return "network"
	case "project", "service", "stack":
		return key
	case "host":
		return "host"
	case "namespace":
		return classLabel
	case "target", "source", "label", "src_name", "dst_name":
		return classLabel
	case "text", "rule", "summary", "evidence", "remedy", "skipped", "notes", "open_rule", "rule_evidence":
		return classRule
	case "comment":
		return classComment
	case "chain", "table":
		return classChain
	case "cause", "outcome", "proto", "type", "kind", "state", "stage", "action", "decided", "family", "backend",
		"hook", "purpose", "mode", "mode4", "mode6", "version", "kernel", "hooks", "started", "read", "boot_id", "run", "tcp_flags", "reason",
		"severity", "check", "driver", "clamp", "direction", "discovery", "device_kind", "function", "errno", "mac_kind", "owner", "process", "missinghooks", "verdicts", "policy":
		return classKept
	case "name":
		return nameClass(around)
	}
	return classText
}

// nameClass says what a "name" is by what it is of.
func nameClass(around string) string {
	switch around {
	case "links", "queues":
		return classDevice
	case "networks":
		return "network"
	case "tables", "chains":
		return classChain
	case "programs":
		return classKept
	}
	return classLabel
}
