package recording

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Format is the version of the format that this package writes, and the newest that it reads.
const Format = 1

// Header describes a recording; it comes first.
type Header struct {
	// Format is the version of the format. Versions differ if an old reader would misunderstand;
	// what is only added needs no new one.
	Format int `json:"format"`
	// Version is that of the pathtrace which recorded.
	Version string `json:"version"`
	// Host, BootID and Kernel (release) tell where it was; BootID is that of the kernel's random/boot_id,
	// with which monotonic clocks are comparable.
	Host   string `json:"host"`
	BootID string `json:"boot_id"`
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
	// WallNS (Unix time) and MonotonicNS (CLOCK_MONOTONIC, the clock of the events) are of one moment, at
	// the beginning.
	WallNS      int64  `json:"wall_ns"`
	MonotonicNS uint64 `json:"monotonic_ns"`
	// Run names the recording; the parts of one, from 0, have it in common.
	Run  string `json:"run"`
	Part int    `json:"part"`
	// Redacted is set where addresses and names were replaced.
	Redacted bool `json:"redacted,omitempty"`
	// Fields are those of an event, in order; each is a name, a colon and how it is encoded.
	Fields []string `json:"fields"`
}

// Clock is what the clocks of the host showed at one moment. Records of this type follow the header.
type Clock struct {
	WallNS      int64  `json:"wall_ns"`
	MonotonicNS uint64 `json:"monotonic_ns"`
}

// Wall converts a time of the events to Unix time in ns, by the header's clocks.
func (h *Header) Wall(monotonic uint64) int64 { return h.WallNS + int64(monotonic-h.MonotonicNS) }

// NewHeader describes a recording that begins now on this host.
func NewHeader(version string) Header {
	now := Now()
	h := Header{
		Format: Format, Version: version, Arch: runtime.GOARCH, WallNS: now.WallNS, MonotonicNS: now.MonotonicNS,
	}
	h.Host, _ = os.Hostname() // an unnamed host can be recorded, too
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		h.BootID = strings.TrimSpace(string(id))
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		release, _, _ := bytes.Cut(uts.Release[:], []byte{0})
		h.Kernel = string(release)
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	h.Run = hex.EncodeToString(id[:])
	return h
}

// Now reads both clocks.
func Now() Clock {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return Clock{WallNS: time.Now().UnixNano()}
	}
	return Clock{WallNS: time.Now().UnixNano(), MonotonicNS: uint64(ts.Nano())}
}
