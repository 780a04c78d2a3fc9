package prober

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// reportStamps are the flags of SO_TIMESTAMPING (Documentation/networking/timestamping.rst): software
// times of what arrives. Times of what is sent are not asked for: making and queueing them takes the
// kernel longer than it takes to send the packet.
const reportStamps = unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_RX_SOFTWARE

// parseStamp returns the software time in control messages, CLOCK_REALTIME ns, 0 if there is none.
func parseStamp(oob []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		// struct scm_timestamping: three struct timespec, the first is software's.
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPING && len(m.Data) >= 16 {
			b := binary.NativeEndian
			return int64(b.Uint64(m.Data))*1e9 + int64(b.Uint64(m.Data[8:]))
		}
	}
	return 0
}

// realtimeOffset is CLOCK_REALTIME minus CLOCK_MONOTONIC, ns. The time between both readings is an error
// of it, so the closest of a few counts.
func realtimeOffset() (offset int64) {
	best := uint64(1 << 62)
	for range 3 {
		before := monotonic()
		var ts unix.Timespec
		if unix.ClockGettime(unix.CLOCK_REALTIME, &ts) != nil {
			return 0
		}
		after := monotonic()
		if after-before < best {
			best, offset = after-before, ts.Nano()-int64(before+(after-before)/2)
		}
	}
	return offset
}
