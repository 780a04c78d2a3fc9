package prober

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// reportStamps are the flags of SO_TIMESTAMPING (Documentation/networking/timestamping.rst): times of
// what arrives, taken by the stack, and times of what is sent without its data. Which packets get
// a time when they are sent is said with each of them.
const reportStamps = unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_RX_SOFTWARE |
	unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY

// stampRequest is the control message that asks for the time when the driver had the request.
func stampRequest() []byte {
	oob := make([]byte, unix.CmsgSpace(4))
	b := binary.NativeEndian
	// struct cmsghdr: cmsg_len is a size_t.
	b.PutUint64(oob[0:], uint64(unix.CmsgLen(4)))
	b.PutUint32(oob[8:], unix.SOL_SOCKET)
	b.PutUint32(oob[12:], unix.SO_TIMESTAMPING)
	b.PutUint32(oob[unix.CmsgLen(0):], unix.SOF_TIMESTAMPING_TX_SOFTWARE)
	return oob
}

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

// driven takes the time of the last request that was stamped out of the error queue, 0 if there is none.
func (k *Kept) driven() (at int64) {
	oob := make([]byte, 512)
	for {
		_, n, _, _, err := unix.Recvmsg(k.fd, k.buf[:0], oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return at
		}
		if t := parseStamp(oob[:n]); t != 0 {
			at = t
		}
	}
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

// since turns CLOCK_REALTIME into CLOCK_MONOTONIC; 0 stays 0.
func since(realtime, offset int64) uint64 {
	if realtime == 0 {
		return 0
	}
	return uint64(realtime - offset)
}
