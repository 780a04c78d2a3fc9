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
	once  sync.Once
	bytes []byte
	err   error
}

// compressed returns the program as a gzip stream, made once for all hosts.
func (p *Program) compressed() ([]byte, error) {
	p.once.Do(func() { p.bytes, p.err = compressSelf() })
	return p.bytes, p.err
}

// compressSelf reads this process's own program, even if its file was replaced meanwhile.
func compressSelf() ([]byte, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("read own program: %w", err)
	}
	defer f.Close()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compress own program: %w", err)
	}
	if _, err := io.Copy(z, f); err != nil {
		return nil, fmt.Errorf("compress own program: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress own program: %w", err)
	}
	return out.Bytes(), nil
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
