package remote

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
)

// Program is what is run on the hosts: this one.
type Program struct {
	once sync.Once
	packed
	err error
}

// packed is a program as a gzip stream, and how many bytes it unpacks to.
type packed struct {
	bytes []byte
	size  int64
}

// kilobytes is how much it takes on a disk, kB.
func (p packed) kilobytes() int64 { return (p.size + 1023) / 1024 }

// compressed returns the program, packed once for all hosts.
func (p *Program) compressed() (packed, error) {
	p.once.Do(func() { p.packed, p.err = compressSelf() })
	return p.packed, p.err
}

// compressSelf reads this process's own program, even if its file was replaced meanwhile.
func compressSelf() (packed, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return packed{}, fmt.Errorf("read own program: %w", err)
	}
	defer f.Close()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return packed{}, fmt.Errorf("compress own program: %w", err)
	}
	size, err := io.Copy(z, f)
	if err != nil {
		return packed{}, fmt.Errorf("compress own program: %w", err)
	}
	if err := z.Close(); err != nil {
		return packed{}, fmt.Errorf("compress own program: %w", err)
	}
	return packed{bytes: out.Bytes(), size: size}, nil
}

// machine is what uname calls this program's architecture.
func machine() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}
