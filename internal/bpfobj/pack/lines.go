package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// Where the header of .BTF.ext (struct btf_ext_header, tools/lib/bpf/libbpf_internal.h) tells its own
// length, and the place and length of its parts.
const (
	headerLength = 4
	functionsAt  = 8
	linesAt      = 16
)

// dropLines leaves of an object's line information what it says of the beginning of each function, in place.
// The kernel wants to know that much if there is any (check_btf_line, kernel/bpf/verifier.c), and there
// always may be: ebpf makes line information of its remarks about what a kernel lacks.
func dropLines(object []byte) error {
	f, err := elf.NewFile(bytes.NewReader(object))
	if err != nil {
		return err
	}
	section := f.Section(".BTF.ext")
	if section == nil {
		return errors.New("no section .BTF.ext")
	}
	ext := object[section.Offset : section.Offset+section.FileSize]
	begins := map[place]bool{}
	_, err = eachRecord(part(ext, functionsAt), func(p place) bool {
		begins[p] = true
		return true
	})
	if err != nil {
		return fmt.Errorf("functions: %w", err)
	}
	lines := part(ext, linesAt)
	kept, err := eachRecord(lines, func(p place) bool { return begins[p] })
	if err != nil {
		return fmt.Errorf("lines: %w", err)
	}
	clear(lines[copy(lines, kept):])
	binary.LittleEndian.PutUint32(ext[linesAt+4:], uint32(len(kept))) //nolint:gosec // less than it was
	return nil
}

// part is the part of .BTF.ext whose place and length stand at an offset of the header.
func part(ext []byte, at int) []byte {
	field := func(at int) uint32 { return binary.LittleEndian.Uint32(ext[at:]) }
	return ext[field(headerLength)+field(at):][:field(at+4)]
}

// place is an instruction: the name of its section as an offset, its own offset in there.
type place struct{ section, offset uint32 }

// eachRecord calls keep for each record of a part, and returns a part with those that it keeps. A part is
// the size of a record, then sections: name, number of records, records, which begin with the offset.
func eachRecord(part []byte, keep func(place) bool) ([]byte, error) {
	const sectionHeader = 8
	size := int(binary.LittleEndian.Uint32(part))
	out, rest := bytes.Clone(part[:4]), part[4:]
	for len(rest) > 0 {
		name, n := binary.LittleEndian.Uint32(rest), int(binary.LittleEndian.Uint32(rest[4:]))
		start, kept := len(out), uint32(0)
		out, rest = append(out, rest[:sectionHeader]...), rest[sectionHeader:]
		for range n {
			record := rest[:size]
			rest = rest[size:]
			if keep(place{name, binary.LittleEndian.Uint32(record)}) {
				out = append(out, record...)
				kept++
			}
		}
		if kept == 0 {
			return nil, fmt.Errorf("nothing is left of section %d", name)
		}
		binary.LittleEndian.PutUint32(out[start+4:], kept)
	}
	return out, nil
}
