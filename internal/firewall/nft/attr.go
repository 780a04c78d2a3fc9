package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// attrs are the netlink attributes of one level by their number; numbers beyond are newer than this
// program and are ignored. Values share the message's memory.
type attrs [24][]byte

// parse reads one level of attributes.
func parse(b []byte) (a attrs, err error) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return a, fmt.Errorf("read netlink attributes: %w", err)
	}
	for ad.Next() {
		if t := int(ad.Type()); t < len(a) {
			ad.Do(func(b []byte) error { a[t] = b; return nil })
		}
	}
	if err := ad.Err(); err != nil {
		return a, fmt.Errorf("read netlink attributes: %w", err)
	}
	return a, nil
}

// list calls fn with the attributes of each element of a list.
func list(b []byte, fn func(attrs) error) error {
	if len(b) == 0 {
		return nil
	}
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return fmt.Errorf("read netlink list: %w", err)
	}
	for ad.Next() {
		if ad.Type() != unix.NFTA_LIST_ELEM {
			continue
		}
		ad.Do(func(b []byte) error {
			a, err := parse(b)
			if err != nil {
				return err
			}
			return fn(a)
		})
	}
	return ad.Err()
}

// has reports whether the attribute is there.
func (a *attrs) has(i int) bool { return a[i] != nil }

// u8, u32 and u64 are numbers, which nf_tables sends in network byte order; 0 if absent or too short.
func (a *attrs) u8(i int) uint8 {
	if len(a[i]) < 1 {
		return 0
	}
	return a[i][0]
}

func (a *attrs) u16(i int) uint16 {
	if len(a[i]) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(a[i])
}

func (a *attrs) u32(i int) uint32 {
	if len(a[i]) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a[i])
}

func (a *attrs) u64(i int) uint64 {
	if len(a[i]) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(a[i])
}

func (a *attrs) str(i int) string { return unix.ByteSliceToString(a[i]) }

// nested reads the level below; an unreadable one is empty.
func (a *attrs) nested(i int) attrs {
	if len(a[i]) == 0 {
		return attrs{}
	}
	n, _ := parse(a[i])
	return n
}

// value is the bytes of a NFTA_DATA_VALUE below attribute i.
func (a *attrs) value(i int) []byte {
	n := a.nested(i)
	return n[unix.NFTA_DATA_VALUE]
}

// walk calls fn for each attribute of one level, also for those of the same number.
func walk(b []byte, fn func(typ uint16, b []byte)) error {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return fmt.Errorf("read netlink attributes: %w", err)
	}
	for ad.Next() {
		ad.Do(func(b []byte) error { fn(ad.Type(), b); return nil })
	}
	return ad.Err()
}

// comment finds the comment in the data that the tools keep with a rule: a list of type, length and
// text (libnftnl udata.h).
func comment(udata []byte) string {
	const typeComment = 0
	for len(udata) >= 2 && len(udata) >= 2+int(udata[1]) {
		value := udata[2 : 2+int(udata[1])]
		if udata[0] == typeComment {
			return unix.ByteSliceToString(value)
		}
		udata = udata[2+len(value):]
	}
	return ""
}
