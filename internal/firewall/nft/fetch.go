package nft

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// fewSets is up to how many anonymous sets are read together with the rules: then asking for each later
// would cost more. The kernel finds a set by going through all of its table, three times for each that is
// read (nf_tables_dump_set): 5,000 sets took 1.5 s.
const fewSets = 128

// Attributes of uapi linux/netfilter/nf_tables.h that x/sys does not have.
const (
	attrTableHandle = 4
	attrSetHandle   = 16
)

// errReplaced says that a set is gone, or that its name is another's now.
var errReplaced = errors.New("the rule was replaced before its set was read")

// fetcher reads what is in sets after the rules were read. It is safe for concurrent use.
type fetcher struct {
	inside func(func() error) error
	sets   []*set     // of one reading, in the order of the kernel
	mu     sync.Mutex // one question at a time
	// end is behind the sets that were read last, ahead how many they were: where rule after rule asks for
	// its set, each time twice as many are read.
	end, ahead int
}

// nearby is how far behind the last ones a set is that counts as the next one.
const nearby = 4

// leave leaves a set to be read later.
func (f *fetcher) leave(s *set) {
	s.later, s.place = f, len(f.sets)
	f.sets = append(f.sets, s)
}

// batch returns the sets that are to be read when one is asked for, that one first.
func (f *fetcher) batch(s *set) []*set {
	if s.place < f.end || s.place >= f.end+nearby {
		f.ahead = 0
	}
	f.ahead = max(1, 2*f.ahead)
	f.end = min(s.place+f.ahead, len(f.sets))
	return slices.DeleteFunc(slices.Clone(f.sets[s.place:f.end]), func(s *set) bool { return !s.unread() })
}

// deferrable reports whether what is in the set can be read as well later: the kernel lets nobody change
// an anonymous constant set while a rule refers to it (nf_tables_newsetelem), and no other set of its
// table ever has its handle.
func (s *set) deferrable() bool {
	return s.anonymous() && s.has(unix.NFT_SET_CONSTANT) && !s.changes() && s.handle != 0
}

// unread reports whether the elements are still to be fetched.
func (s *set) unread() bool { return s.later != nil && !s.fetched.Load() }

// fetch reads the elements, once. Afterwards s.lost says whether and why they could not be read.
func (s *set) fetch() {
	f := s.later
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.fetched.Load() {
		return
	}
	list := f.batch(s)
	err := f.read(list)
	for try := 1; err != nil && (len(list) > 1 || changed(err) && try < attempts); try++ {
		list = list[:1] // which may be there still
		time.Sleep(time.Duration(try*try) * time.Millisecond)
		err = f.read(list)
	}
	s.lost = err
	for _, s := range list {
		s.fetched.Store(true)
	}
}

// read reads the elements of sets, if they are still there.
func (f *fetcher) read(list []*set) error {
	return f.inside(func() error {
		c, err := nfnl.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		before, err := generation(c)
		if err != nil {
			return err
		}
		for _, s := range list {
			if before != s.generation {
				if err := s.stillThere(c); err != nil {
					return err
				}
			}
			s.elems, s.exact, s.ranges, s.all = nil, nil, nil, nil
			if err := elements(c, s); err != nil {
				return err
			}
		}
		after, err := generation(c)
		if err == nil && after != before {
			err = nfnl.ErrInterrupted
		}
		return err
	})
}

// stillThere compares the handles of the set and its table with those that they had when they were read:
// names are used again.
func (s *set) stillThere(c *nfnl.Conn) error {
	for _, q := range []struct {
		typ, attr int
		body      []byte
		want      uint64
	}{
		{unix.NFT_MSG_GETTABLE, attrTableHandle, nfnl.Attribute(nil, unix.NFTA_TABLE_NAME, s.table), s.tableHandle},
		{
			unix.NFT_MSG_GETSET, attrSetHandle,
			nfnl.Attribute(nfnl.Attribute(nil, unix.NFTA_SET_TABLE, s.table), unix.NFTA_SET_NAME, s.name), s.handle,
		},
	} {
		var handle uint64
		err := c.Get(question(q.typ), s.family, q.body, func(_ uint8, a nfnl.Attrs) error {
			handle = a.U64(q.attr)
			return nil
		})
		switch {
		case errors.Is(err, unix.ENOENT), err == nil && handle != q.want:
			return errReplaced
		case err != nil:
			return err
		}
	}
	return nil
}

// why says why what is in the set is not known; "" if it is.
func (s *set) why() string {
	if s == nil {
		return "a set that was not read"
	}
	if s.lost != nil {
		return fmt.Sprintf("set not read: %v", s.lost)
	}
	return ""
}
