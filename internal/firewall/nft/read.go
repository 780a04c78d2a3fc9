package nft

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/ipset"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
	"github.com/pathtrace/pathtrace/internal/firewall/tape"
)

// attempts bounds how often a ruleset is read that changes under the reader, as while dockerd starts.
const attempts = 6

// errAbsent says that the kernel has no nf_tables.
var errAbsent = errors.New("no nf_tables in this kernel")

// Reader reads the rules of one network namespace again and again. Sets, which may be large or many,
// are read again only if anything but counters changed since; and only then are rules decoded. The zero value is ready for use; it is
// not safe for concurrent use.
type Reader struct {
	// Tape, if not nil, keeps what the kernel answers, or answers in its place. A tape holds all of one
	// reading, so it is a new one each time.
	Tape *tape.Tape
	// Inside, if not nil, runs a function in the namespace at any later time, on any thread. Then many
	// anonymous sets are not read together with the rules, but each when a rule that refers to it is asked
	// about a packet that the rest of the rule fits. A tape has all of them in any case.
	Inside func(func() error) error
	// setsTape is the tape with the answers that made sets.
	setsTape *tape.Tape

	// generation is that of the ruleset whose sets and rules these are; they are nil before the first
	// reading.
	generation uint32
	sets       map[tableKey]map[string]*set
	bodies     map[ruleKey]*body
}

// Read reads all tables of all families of the calling thread's network namespace, which must be the same
// for each call. The sentences say what could not be read; what is returned is right nevertheless. A kernel
// without nf_tables has no tables, which is no error. It needs CAP_NET_ADMIN in the namespace.
func (r *Reader) Read() ([]*firewall.Table, []string, error) {
	if !r.present() {
		return nil, nil, nil
	}
	mark := r.Tape.Mark()
	for try := 1; ; try++ {
		found, err := r.once(try == attempts)
		switch {
		case err == nil:
			return found.tables, found.problems, nil
		case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, errAbsent):
			return nil, nil, nil // a kernel without nfnetlink, or without nf_tables
		case !changed(err) || try == attempts:
			return nil, nil, fmt.Errorf("read nf_tables rules: %w", err)
		}
		if r.Tape.Plays() {
			return nil, nil, fmt.Errorf("read nf_tables rules: %w", err)
		}
		r.Tape.Cut(mark)
		time.Sleep(time.Duration(try*try) * time.Millisecond)
	}
}

// present asks whether there is nf_tables at all.
func (r *Reader) present() bool {
	answer, err := r.Tape.Ask("nf_tables present", func() ([][]byte, error) {
		if present() {
			return [][]byte{{1}}, nil
		}
		return nil, nil
	})
	return err == nil && len(answer) > 0
}

// once reads everything one time, on a connection of its own: one that failed may hold answers to
// what was asked before.
func (r *Reader) once(last bool) (*ruleset, error) {
	c, err := nfnl.DialTape(r.Tape)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return r.ruleset(c, last)
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
	sets     map[tableKey]map[string]*set
	problems []string
	unknown  map[string]bool // expressions that were reported
	links    links
	ipsets   *ipset.Sets
	known    map[ruleKey]*body // of an earlier reading of the same generation
	bodies   map[ruleKey]*body
	// generation is that of the kernel before the reading, handles are the numbers of tables.
	generation uint32
	handles    map[tableKey]uint64
	later      *fetcher // nil: all sets are read at once
}

// ruleset reads everything. If last is set, rules that changed meanwhile are a problem that is
// told, not an error.
func (r *Reader) ruleset(c *nfnl.Conn, last bool) (*ruleset, error) {
	before, err := generation(c)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, errAbsent // nfnetlink's answer to a question for a subsystem that it has not
	}
	if err != nil {
		return nil, err
	}
	f := r.begin(before)
	if f.sets != nil {
		r.Tape.Copy(r.setsTape, nfnl.Question(question(unix.NFT_MSG_GETSET)), nfnl.Question(question(unix.NFT_MSG_GETSETELEM)))
	}
	if err := f.readAll(c, last); err != nil {
		return nil, err
	}
	if sentence := f.ipsets.Problem(); sentence != "" {
		f.problems = append(f.problems, sentence)
	}
	after, err := generation(c)
	if err == nil && after != before {
		err = nfnl.ErrInterrupted
	}
	if err == nil && !last {
		maps.DeleteFunc(f.bodies, func(_ ruleKey, b *body) bool { return !b.lasting() })
		r.generation, r.sets, r.bodies = after, f.sets, f.bodies
		r.setsTape = r.Tape
	}
	return f, f.tolerate(last, err)
}

// begin is an empty ruleset with what is known of that generation.
func (r *Reader) begin(generation uint32) *ruleset {
	f := &ruleset{
		byKey:   make(map[tableKey]*firewall.Table),
		chains:  make(map[*firewall.Table]map[string]*firewall.Chain),
		unknown: make(map[string]bool),
		ipsets:  ipset.NewTape(r.Tape),
		bodies:  make(map[ruleKey]*body, len(r.bodies)),
		handles: make(map[tableKey]uint64),

		generation: generation,
	}
	if r.Inside != nil && r.Tape == nil {
		f.later = &fetcher{inside: r.Inside}
	}
	known := r.sets != nil && r.generation == generation
	if known && (!r.Tape.Keeps() || r.setsTape != nil) {
		f.sets, f.known = r.sets, r.bodies
	}
	return f
}

// readAll reads tables, chains, sets and rules, each of which refer to those before.
func (f *ruleset) readAll(c *nfnl.Conn, last bool) error {
	if err := f.tolerate(last, dump(c, unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC, nil, f.addTable)); err != nil {
		return err
	}
	if err := f.tolerate(last, dump(c, unix.NFT_MSG_GETCHAIN, unix.AF_UNSPEC, nil, f.addChain)); err != nil {
		return err
	}
	f.setBackends()
	if err := f.readSets(c, last); err != nil {
		return err
	}
	return f.tolerate(last, dump(c, unix.NFT_MSG_GETRULE, unix.AF_UNSPEC, nil, f.addRule))
}

// tolerate turns a change during the last attempt into a problem.
func (f *ruleset) tolerate(last bool, err error) error {
	if !last || err == nil || !changed(err) {
		return err
	}
	const sentence = "nf_tables rules kept changing while they were read; some may be missing or old"
	if len(f.problems) == 0 || f.problems[len(f.problems)-1] != sentence {
		f.problems = append(f.problems, sentence)
	}
	return nil
}

// readSets reads the sets and maps and what is in them, unless they are known.
func (f *ruleset) readSets(c *nfnl.Conn, last bool) error {
	if f.sets != nil {
		return nil
	}
	f.sets = make(map[tableKey]map[string]*set)
	var all []*set
	err := dump(c, unix.NFT_MSG_GETSET, unix.AF_UNSPEC, nil, func(family uint8, a nfnl.Attrs) error {
		s := newSet(family, a)
		key := tableKey{family, s.table}
		s.generation, s.tableHandle = f.generation, f.handles[key]
		if f.sets[key] == nil {
			f.sets[key] = make(map[string]*set)
		}
		f.sets[key][s.name] = s
		all = append(all, s)
		return nil
	})
	if err := f.tolerate(last, err); err != nil {
		return err
	}
	if f.later != nil && !last {
		all = f.deferSets(all)
	}
	for _, s := range all {
		if err := f.tolerate(last, elements(c, s)); err != nil {
			return err
		}
	}
	return nil
}

// deferSets leaves sets to be read later if they are many, and returns the others.
func (f *ruleset) deferSets(all []*set) []*set {
	now := slices.DeleteFunc(slices.Clone(all), (*set).deferrable)
	if len(all)-len(now) <= fewSets {
		return all
	}
	for _, s := range all {
		if s.deferrable() {
			f.later.leave(s)
		}
	}
	f.links.read()
	return now
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
	return c.Dump(question(typ), family, body, fn)
}

// question is a type of nf_tables' as nfnetlink wants it.
func question(typ int) uint16 { return uint16(unix.NFNL_SUBSYS_NFTABLES<<8 | typ) }

// generation is the number of the ruleset, which every change raises.
func generation(c *nfnl.Conn) (id uint32, err error) {
	err = c.Get(question(unix.NFT_MSG_GETGEN), unix.AF_UNSPEC, nil, func(_ uint8, a nfnl.Attrs) error {
		id = a.U32(unix.NFTA_GEN_ID)
		return nil
	})
	return id, err
}
