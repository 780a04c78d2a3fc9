package nft

import (
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
	"github.com/pathtrace/pathtrace/internal/firewall/xt"
)

// matchExpr is a match of x_tables (nft_compat.c).
type matchExpr struct{ match xt.Match }

func (e *matchExpr) eval(m *machine) {
	if !m.everything {
		m.require(e.match.Judge(m.p))
	}
}

// targetExpr is a target of x_tables.
type targetExpr struct{ target xt.Target }

func (e *targetExpr) eval(m *machine) { m.end(e.target.At(m.p.Hook)) }

func decodeMatchExpr(d *decoder, a nfnl.Attrs) expr {
	name := a.Str(unix.NFTA_MATCH_NAME)
	return &matchExpr{d.xtables().Match(d.family == firewall.FamilyIP6, name,
		uint8(a.U32(unix.NFTA_MATCH_REV)), a[unix.NFTA_MATCH_INFO])}
}

func decodeTargetExpr(d *decoder, a nfnl.Attrs) expr {
	name := a.Str(unix.NFTA_TARGET_NAME)
	return &targetExpr{d.xtables().Target(d.family == firewall.FamilyIP6, name,
		uint8(a.U32(unix.NFTA_TARGET_REV)), a[unix.NFTA_TARGET_INFO])}
}

func (d *decoder) xtables() xt.Decoder {
	return xt.Decoder{Bridge: d.family == firewall.FamilyBridge, Sets: d.ipsets}
}
