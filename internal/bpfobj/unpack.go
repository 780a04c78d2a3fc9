package bpfobj

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/zstd"
)

// unpack returns an object of which the compressed form is embedded.
func unpack(packed []byte) io.ReaderAt {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return broken{err}
	}
	defer r.Close()
	object, err := r.DecodeAll(packed, nil)
	if err != nil {
		return broken{err}
	}
	return bytes.NewReader(object)
}

// broken fails to be read with the error of unpacking.
type broken struct{ err error }

func (b broken) ReadAt([]byte, int64) (int, error) { return 0, b.err }
