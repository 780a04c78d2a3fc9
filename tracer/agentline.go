package tracer

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// agentProtocol is the version of what an agent and its caller say to each other. Both are the same
// program, unless one was installed by hand.
const agentProtocol = 1

// Kinds of frames on the line of an agent: a byte, the length of the payload (four bytes, big endian),
// the payload.
const (
	frameMessage   = 'M' // JSON
	frameRecording = 'R' // bytes of a recording
)

// maxFrame bounds a frame, for the memory of who reads it.
const maxFrame = 1 << 20

// agentHello is the first thing that an agent says.
type agentHello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	Host     string `json:"host"`
	BootID   string `json:"boot_id"`
	Kernel   string `json:"kernel"`
}

// agentMessage is what an agent says; one field is set.
type agentMessage struct {
	Hello   *agentHello `json:"hello,omitempty"`
	Survey  *survey     `json:"survey,omitempty"`
	Started *Meta       `json:"started,omitempty"`
	Note    string      `json:"note,omitempty"`
	Failed  string      `json:"failed,omitempty"`
	Done    *Stats      `json:"done,omitempty"`
}

// agentOrder is what an agent is told; one field is set. None is a sign of life.
type agentOrder struct {
	Survey *agentConfig `json:"survey,omitempty"`
	Start  *agentConfig `json:"start,omitempty"`
	Go     bool         `json:"go,omitempty"`
	Stop   bool         `json:"stop,omitempty"`
}

// agentConfig is what of a Config goes to other hosts.
type agentConfig struct {
	Target      string        `json:"target"`
	Source      string        `json:"source,omitempty"`
	Proto       path.Proto    `json:"proto,omitempty"`
	DockerHosts []string      `json:"docker_hosts,omitempty"`
	PreferIPv6  bool          `json:"prefer_ipv6,omitempty"`
	Timeout     time.Duration `json:"timeout_ns,omitempty"`
	Count       int           `json:"count,omitempty"`
	AllPackets  bool          `json:"all_packets,omitempty"`
	TraceRules  bool          `json:"trace_rules,omitempty"`
	Packets     bool          `json:"packets,omitempty"`
	Snaplen     int           `json:"snaplen,omitempty"`
	Buffer      uint32        `json:"buffer,omitempty"`
	share
}

// frames writes to a line. It is safe for concurrent use.
type frames struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frames) send(kind byte, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	if _, err := f.w.Write(append(head, payload...)); err != nil {
		return err
	}
	return nil
}

// say sends a message or an order.
func (f *frames) say(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	return f.send(frameMessage, text)
}

// recordingFrames is the file of a recording that goes over the line.
type recordingFrames struct{ *frames }

// Write implements io.Writer.
func (f recordingFrames) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n := min(len(b)-done, maxFrame)
		if err := f.send(frameRecording, b[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return len(b), nil
}

// Close implements io.Closer; the end of the recording is said in it.
func (recordingFrames) Close() error { return nil }

var errFrame = errors.New("what comes over the line is not understood")

// readFrame reads one frame.
func readFrame(in *bufio.Reader) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame || head[0] != frameMessage && head[0] != frameRecording {
		return 0, nil, errFrame
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(in, payload); err != nil {
		return 0, nil, err
	}
	return head[0], payload, nil
}
