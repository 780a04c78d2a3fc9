package expect

import (
	"encoding/json"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// missingRecord is a Missing with what it knows of packets: the form in recordings.
type missingRecord struct {
	plainMissing
	Hook   firewall.Hook
	Covers matchRecord
}

// plainMissing is a Missing without methods.
type plainMissing Missing

// matchRecord is a match.
type matchRecord struct {
	In, NotIn, Out, NotOut   string
	Src, Dst, NotSrc, NotDst netip.Prefix
	SrcLocal, DstLocal       bool
	Established              bool
	Proto                    string
	DstPort                  uint16
}

// MarshalJSON encodes everything, also what packets the rule is for.
func (m Missing) MarshalJSON() ([]byte, error) {
	c := &m.covers
	return json.Marshal(missingRecord{plainMissing(m), m.hook, matchRecord{
		c.in, c.notIn, c.out, c.notOut, c.src, c.dst, c.notSrc, c.notDst, c.srcLocal, c.dstLocal, c.established,
		c.proto, c.dport,
	}})
}

// UnmarshalJSON decodes what MarshalJSON encoded.
func (m *Missing) UnmarshalJSON(b []byte) error {
	var r missingRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return err
	}
	*m = Missing(r.plainMissing)
	c := &r.Covers
	m.hook = r.Hook
	m.covers = match{
		in: c.In, notIn: c.NotIn, out: c.Out, notOut: c.NotOut, src: c.Src, dst: c.Dst, notSrc: c.NotSrc, notDst: c.NotDst,
		srcLocal: c.SrcLocal, dstLocal: c.DstLocal, established: c.Established, proto: c.Proto, dport: c.DstPort,
	}
	return nil
}
