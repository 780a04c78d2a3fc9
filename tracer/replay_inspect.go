package tracer

import (
	"time"

	"github.com/pathtrace/pathtrace/internal/recording"
)

// RecordingInfo says what a recording is, without what it holds.
type RecordingInfo struct {
	// Host, Kernel (release) and Version (of pathtrace) are those it was made with, Began when.
	Host, Kernel, Version string
	Began                 time.Time
	// Run is the same in all parts of a recording; Part counts them from 0.
	Run  string
	Part int
	// Redacted is set where addresses and names were replaced.
	Redacted bool
	Meta     Meta
}

// InspectRecording reads the beginning of a recording. The error is a *RecordingError.
func InspectRecording(in Input) (*RecordingInfo, error) {
	r, err := recording.NewReader(in)
	if err != nil {
		return nil, &RecordingError{in.Name, err}
	}
	defer r.Close()
	h := r.Header()
	info := &RecordingInfo{
		Host: h.Host, Kernel: h.Kernel, Version: h.Version, Began: time.Unix(0, h.WallNS), Run: h.Run, Part: h.Part,
		Redacted: h.Redacted,
	}
	for {
		kind, err := r.Next()
		if err != nil {
			return nil, &RecordingError{in.Name, err}
		}
		if kind == recording.KindRecord && r.Record().Type == typeMeta {
			if err := r.Record().Decode(&info.Meta); err != nil {
				return nil, &RecordingError{in.Name, err}
			}
			return info, nil
		}
	}
}
