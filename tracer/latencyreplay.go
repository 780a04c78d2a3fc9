package tracer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/latency"
	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/internal/target"
)

// LatencyReplay is a recording to time.
type LatencyReplay struct {
	// Name is what it is called in the result.
	Name string
	// Parts are the inputs in their order. They are read twice and must be io.Seekers: what a device is
	// may be recorded after its first packet.
	Parts []Input
}

// ReplayLatency times the packets of recorded traces, and lays each further recording beside the first at
// the named quantile, such as "p50". A recording has the packets with data if it was made of all packets.
// The own cost is not recorded: every segment includes that of one observation. Errors are as those of
// Replay.
func ReplayLatency(ctx context.Context, cfg ReplayConfig, quantileName string, recordings ...LatencyReplay) (LatencyResult, error) {
	var result LatencyResult
	quantile, err := latency.ParseQuantile(cmp.Or(quantileName, "p50"))
	if err != nil {
		return result, &target.UsageError{Message: err.Error()}
	}
	var snapshots []*latency.Snapshot
	for i, rec := range recordings {
		names, err := recordedNames(rec.Parts)
		if err != nil {
			return result, err
		}
		snap, stats, err := replayMeter(ctx, cfg, names, rec)
		if err != nil {
			return result, err
		}
		snap.Report.Target = rec.Name
		snap.Report.Own.Method = "not recorded: each segment includes one observation"
		snap.Report.Complete = stats.LostEvents == 0
		snapshots = append(snapshots, snap)
		result.Targets = append(result.Targets, TargetLatency{Report: snap.Report, Segments: namedSegments(names, rec.Name, snap)})
		if i == 0 {
			result.Stats = stats
		}
	}
	result.compare(snapshots, quantile)
	return result, nil
}

// replayMeter feeds a recording to a meter.
func replayMeter(ctx context.Context, cfg ReplayConfig, names bookNamings, rec LatencyReplay) (*latency.Snapshot, Stats, error) {
	cfg.OnFlow = nil
	r := newReplay(cfg)
	r.meter = latency.NewMeter(latency.Config{
		DeviceKind: func(netns, ifindex uint32, name string) (string, bool) {
			return names.device(netns, ifindex, name).kind, true
		},
	})
	for i, in := range rec.Parts {
		if err := r.input(ctx, in, i == 0); err != nil {
			return nil, Stats{}, err
		}
	}
	if r.tracker == nil {
		return nil, Stats{}, &RecordingError{rec.Name, errNoSession}
	}
	r.tracker.Flush()
	r.meter.Flush()
	for _, name := range r.truncated {
		r.cfg.OnNote(fmt.Sprintf("%s: %v; this is all it has", name, recording.ErrTruncated))
	}
	snap := r.meter.Snapshot(0)
	if snap.Report.Request.Count+snap.Report.Reply.Count == 0 {
		r.cfg.OnNote(fmt.Sprintf("%s: no packet with data is recorded: record with --all-packets while there is traffic", rec.Name))
	}
	return snap, r.result().Stats, nil
}

// bookNamings answers from all parts of a recording, the last one first.
type bookNamings []*bookNaming

// recordedNames reads all names of a recording.
func recordedNames(parts []Input) (bookNamings, error) {
	var out bookNamings
	for _, in := range parts {
		seeker, ok := in.Reader.(io.Seeker)
		if !ok {
			return nil, &RecordingError{in.Name, errors.New("it is read twice: give a file")}
		}
		book, err := recordedBook(in)
		if err != nil {
			return nil, err
		}
		out = append(bookNamings{book}, out...)
		if _, err := seeker.Seek(0, io.SeekStart); err != nil {
			return nil, &RecordingError{in.Name, err}
		}
	}
	return out, nil
}

func recordedBook(in Input) (*bookNaming, error) {
	r, err := recording.NewReader(in)
	if err != nil {
		return nil, &RecordingError{in.Name, err}
	}
	defer r.Close()
	for {
		_, err := r.Next()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, recording.ErrTruncated):
			return &bookNaming{header: r.Header(), names: r.Names()}, nil
		default:
			return nil, &RecordingError{in.Name, err}
		}
	}
}

func (b bookNamings) host() string { return b[0].host() }

func (b bookNamings) space(inode uint32) recording.Namespace {
	for _, book := range b {
		if ns := book.space(inode); ns.Name != "" {
			return ns
		}
	}
	return b[0].space(inode)
}

func (b bookNamings) device(netns, ifindex uint32, seen string) device {
	for _, book := range b {
		if d := book.device(netns, ifindex, seen); d.kind != "" {
			return d
		}
	}
	return device{name: seen}
}

func (b bookNamings) peerMTU(netns, ifindex uint32) uint32 {
	for _, book := range b {
		if mtu := book.peerMTU(netns, ifindex); mtu != 0 {
			return mtu
		}
	}
	return 0
}

func (b bookNamings) addrIn(netns uint32, a netip.Addr) string { return b[0].addrIn(netns, a) }

func (b bookNamings) hasAddr(netns, ifindex uint32, a netip.Addr) bool {
	return b[0].hasAddr(netns, ifindex, a)
}
