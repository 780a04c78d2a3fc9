package render

import (
	"bytes"
	_ "embed"
)

//go:embed schema/pathtrace-v1.schema.json
var schemaV1 []byte

// Schema returns a copy of the JSON Schema (draft 2020-12) of every object that JSON writes.
func Schema() []byte { return bytes.Clone(schemaV1) }
