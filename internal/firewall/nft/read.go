package nft

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/ipset"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// attempts bounds how often a ruleset is read that changes under the reader, as while dockerd starts.
const attempts = 6

// Read reads all tables of all families of the calling thread's network namespace. The sentences say
// what could not be read; what is returned is right nevertheless. A kernel without nf_tables has no
// tables, which is no error. It needs CAP_NET_ADMIN in the namespace.
func Read() ([]*firewall.Table, []string, error) {
	if !present() {
		return nil, nil, nil
	}
	c, err := nfnl.Dial()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()

	for try := 1; ; try++ {
		r, err := readRuleset(c, try == attempts)
		switch {
		case err == nil:
			return r.tables, r.problems, nil
		case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP):
			// nfnetlink's answer when no nf_tables is registered.
			return nil, nil, nil
		case !changed(err) || try == attempts:
			return nil, nil, fmt.Errorf("read nf_tables rules: %w", err)
		}
		time.Sleep(time.Duration(try*try) * time.Millisecond)
	}
}

// changed reports whether err means that something was deleted or altered while it was read.
func changed(err error) bool {
	for _, e := range []error{nfnl.ErrInterrupted, unix.ENOENT, unix.EINTR, unix.EAGAIN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// tableKey names a table.
type tableKey struct {
	family uint8
	name   string
}

// ruleset is what is being read.
type ruleset struct {
	tables   []*firewall.Table
	byKey    map[tableKey]*firewall.Table
	chains   map[*firewall.Table]map[string]*firewall.Chain
	sets     map[*firewall.Table]map[string]*set
	problems []string
	unknown  map[string]bool // expressions that were reported
	links    links
	ipsets   *ipset.Sets
}

// readRuleset reads everything once. If last is set, rules that changed meanwhile are a problem that is
// told, not an error.
func readRuleset(c *nfnl.Conn, last bool) (*ruleset, error) {
	before, err := generation(c)
	if err != nil {
		return nil, err
	}
	r := &ruleset{
		byKey:   make(map[tableKey]*firewall.Table),
		chains:  make(map[*firewall.Table]map[string]*firewall.Chain),
		sets:    make(map[*firewall.Table]map[string]*set),
		unknown: make(map[string]bool),
		ipsets:  ipset.New(),
	}
	for _, step := range []struct {
		typ int
		fn  func(uint8, nfnl.Attrs) error
	}{
		{unix.NFT_MSG_GETTABLE, r.addTable},
		{unix.NFT_MSG_GETCHAIN, r.addChain},
	} {
		if err := r.tolerate(last, dump(c, step.typ, unix.AF_UNSPEC, nil, step.fn)); err != nil {
			return nil, err
		}
	}
	r.setBackends()
	if err := r.readSets(c, last); err != nil {
		return nil, err
	}
	if err := r.tolerate(last, dump(c, unix.NFT_MSG_GETRULE, unix.AF_UNSPEC, nil, r.addRule)); err != nil {
		return nil, err
	}
	if sentence := r.ipsets.Problem(); sentence != "" {
		r.problems = append(r.problems, sentence)
	}
	after, err := generation(c)
	if err == nil && after != before {
		err = nfnl.ErrInterrupted
	}
	return r, r.tolerate(last, err)
}

// tolerate turns a change during the last attempt into a problem.
func (r *ruleset) tolerate(last bool, err error) error {
	if !last || err == nil || !changed(err) {
		return err
	}
	const sentence = "nf_tables rules kept changing while they were read; some may be missing or old"
	if len(r.problems) == 0 || r.problems[len(r.problems)-1] != sentence {
		r.problems = append(r.problems, sentence)
	}
	return nil
}

// readSets reads the sets and maps and what is in them.
func (r *ruleset) readSets(c *nfnl.Conn, last bool) error {
	var all []*set
	err := dump(c, unix.NFT_MSG_GETSET, unix.AF_UNSPEC, nil, func(family uint8, a nfnl.Attrs) error {
		t := r.byKey[tableKey{family, a.Str(unix.NFTA_SET_TABLE)}]
		if t == nil {
			return nfnl.ErrInterrupted
		}
		s := newSet(family, a)
		if r.sets[t] == nil {
			r.sets[t] = make(map[string]*set)
		}
		r.sets[t][s.name] = s
		all = append(all, s)
		return nil
	})
	if err := r.tolerate(last, err); err != nil {
		return err
	}
	for _, s := range all {
		if err := r.tolerate(last, elements(c, s)); err != nil {
			return err
		}
	}
	return nil
}

// elements reads what is in a set.
func elements(c *nfnl.Conn, s *set) error {
	body := nfnl.Attribute(nil, unix.NFTA_SET_ELEM_LIST_TABLE, s.table)
	body = nfnl.Attribute(body, unix.NFTA_SET_ELEM_LIST_SET, s.name)
	err := dump(c, unix.NFT_MSG_GETSETELEM, s.family, body, func(_ uint8, a nfnl.Attrs) error {
		return nfnl.List(a[unix.NFTA_SET_ELEM_LIST_ELEMENTS], s.add)
	})
	s.finish()
	return err
}

// dump asks for all objects of a kind of nf_tables.
func dump(c *nfnl.Conn, typ int, family uint8, body []byte, fn func(uint8, nfnl.Attrs) error) error {
	return c.Dump(uint16(unix.NFNL_SUBSYS_NFTABLES<<8|typ), family, body, fn)
}

// generation is the number of the ruleset, which every change raises.
func generation(c *nfnl.Conn) (id uint32, err error) {
	err = c.Get(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, nil, func(_ uint8, a nfnl.Attrs) error {
		id = a.U32(unix.NFTA_GEN_ID)
		return nil
	})
	return id, err
}
