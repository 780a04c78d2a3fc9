package legacy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall/tape"
)

// Options of include/uapi/linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h, which have
// the same numbers.
const (
	soGetInfo    = 64
	soGetEntries = 65
)

const (
	tableNameLen  = 32 // XT_TABLE_MAXNAMELEN
	infoSize      = 84 // sizeof(struct ipt_getinfo)
	entriesHeader = 40 // offsetof(struct ipt_get_entries, entrytable)

	// maxTable bounds what is read of a table: about 400,000 rules.
	maxTable = 128 << 20
)

// tableInfo is struct ipt_getinfo.
type tableInfo struct {
	name       string
	validHooks uint32
	hookEntry  [5]uint32 // offset of the first entry of each hook's chain
	underflow  [5]uint32 // offset of the entry that is its policy
	size       uint32    // of all entries, in bytes
	raw        []byte    // as the kernel gave it
}

// socket is a raw socket, bound to the network namespace in which it was opened.
type socket struct {
	fd, level int
}

func open(v6 bool) (*socket, error) {
	s := socket{level: level(v6)}
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("open raw socket for %s: %w", tool(v6), err)
	}
	s.fd = fd
	return &s, nil
}

// openTape is open, unless the tape answers in the kernel's place.
func openTape(t *tape.Tape, v6 bool) (*socket, error) {
	if t.Plays() {
		return &socket{fd: -1, level: level(v6)}, nil
	}
	return open(v6)
}

func level(v6 bool) int {
	if v6 {
		return unix.SOL_IPV6
	}
	return unix.SOL_IP
}

func (s *socket) close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
}

// taped is table through a tape: the answer of soGetInfo, and the entries.
func (s *socket) taped(t *tape.Tape, name string) (tableInfo, []byte, error) {
	parts, err := t.Ask(fmt.Sprintf("x_tables %d %s", s.level, name), func() ([][]byte, error) {
		info, entries, err := s.table(name)
		if err != nil {
			return nil, err
		}
		return [][]byte{info.raw, entries}, nil
	})
	if err != nil {
		return tableInfo{}, nil, err
	}
	if len(parts) != 2 || len(parts[0]) != infoSize {
		return tableInfo{}, nil, errors.New("its recording is damaged")
	}
	info, err := parseInfo(name, parts[0])
	return info, parts[1], err
}

// table reads a table that exists. It tries again if the table changes size meanwhile.
func (s *socket) table(name string) (tableInfo, []byte, error) {
	const attempts = 10
	var err error
	for range attempts {
		var info tableInfo
		if info, err = s.info(name); err != nil {
			return tableInfo{}, nil, err
		}
		var entries []byte
		if entries, err = s.entries(info); err == nil {
			return info, entries, nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return tableInfo{}, nil, err
}

func (s *socket) info(name string) (tableInfo, error) {
	if len(name) >= tableNameLen {
		return tableInfo{}, fmt.Errorf("get info: %w", unix.ENAMETOOLONG)
	}
	buf := make([]byte, infoSize)
	copy(buf, name)
	if err := s.get(soGetInfo, buf); err != nil {
		return tableInfo{}, fmt.Errorf("get info: %w", err)
	}
	return parseInfo(name, buf)
}

// parseInfo reads struct ipt_getinfo.
func parseInfo(name string, buf []byte) (tableInfo, error) {
	u32 := func(off int) uint32 { return binary.NativeEndian.Uint32(buf[off:]) }
	info := tableInfo{name: name, validHooks: u32(32), size: u32(80), raw: buf}
	for i := range info.hookEntry {
		info.hookEntry[i], info.underflow[i] = u32(36+4*i), u32(56+4*i)
	}
	if info.size > maxTable {
		return tableInfo{}, fmt.Errorf("get info: table of %d bytes is too large", info.size)
	}
	return info, nil
}

func (s *socket) entries(info tableInfo) ([]byte, error) {
	buf := make([]byte, entriesHeader+int(info.size))
	copy(buf, info.name)
	binary.NativeEndian.PutUint32(buf[tableNameLen:], info.size)
	if err := s.get(soGetEntries, buf); err != nil {
		return nil, fmt.Errorf("get entries: %w", err)
	}
	return buf[entriesHeader:], nil
}

// get calls getsockopt with a buffer that the kernel reads and writes, which unix does not offer.
func (s *socket) get(option int, buf []byte) error {
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), uintptr(s.level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
