package tracer

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// RecordConfig says where a trace is recorded, and how much of it.
type RecordConfig struct {
	// Open opens the file of a part, from 0; there is one part without PartSize. The Tracer closes it.
	Open func(part int) (io.WriteCloser, error)
	// PartSize is at how many bytes the next part is begun; 0 means never.
	PartSize int64
	// Limit ends the recording, not the trace, at so many bytes in all; 0 means never.
	Limit int64
	// Examine puts into the recording what Doctor reads of the host when the trace begins, see ReplayDoctor.
	Examine bool
	// Redact, if not nil, is the key with which addresses and names are replaced, see the function Redact.
	Redact []byte
}

// Recorded says what was recorded.
type Recorded struct {
	Events uint64
	Flows  int
	Parts  int
	Bytes  int64
	// Limited is set if the recording ended at its limit.
	Limited bool
	// Err is why the recording ended early: a full disk, a closed pipe. What was written by then can be
	// replayed.
	Err error
}

// clockEvery is how often a recording has the host's clocks and its loss counters.
const clockEvery = time.Second

// sizeEvery is after how many events the size of the recording is looked at; under load no time passes
// for the tracker in between.
const sizeEvery = 1024

// recorder records a session. Its methods are safe for concurrent use; a nil *recorder does nothing.
type recorder struct {
	cfg  RecordConfig
	note func(string)
	live naming
	// namer names what the kernel gives as numbers.
	namer flow.Namer
	lost  func() (uint64, map[string]uint64)
	// podman reports whether commands are those of Podman.
	podman func() bool

	mu       sync.Mutex
	writer   *recording.Writer
	file     io.WriteCloser
	header   recording.Header
	begun    []startRecord // what every part begins with
	said     saidNames
	values   valueBook
	rules    ruleTapes
	earlier  int64 // bytes of the parts before
	clock    uint64
	result   Recorded
	finished bool
	exam     examination
	sights   sights
	named    chan struct{} // closed when nameSights has ended
}

// startRecord is a record that each part begins with.
type startRecord struct {
	typ   string
	value any
}

// Types of the records that a trace makes, beside those of package recording.
const (
	typeMeta      = "meta"       // Meta
	typeSession   = "session"    // sessionRecord
	typeEndpoints = "endpoints"  // endpointsRecord
	typeLost      = "lost"       // map[string]uint64, sums so far
	typeValue     = "value"      // valueRecord
	typeRules     = "rules"      // rulesRecord, with a tape
	typeRuleset   = "ruleset"    // rulesetRecord, in place of rules where they were redacted
	typeFlow      = "flow"       // flowRecord
	typeNoTraffic = "no-traffic" // noTrafficRecord
	typeDoctor    = "doctor"     // doctorRecord
	typeMTU       = "mtu"        // mtuRecord
	typeFlush     = "flush"      // the tracker was told that no event follows
	typePeek      = "peek"       // the tracker was asked for what it has
	typeNote      = "note"       // a sentence for people
	typeStats     = "stats"      // Stats
	typePart      = "part"       // the number of the next part: this one ends here
)

// sessionRecord is how the tracker was set up.
type sessionRecord struct {
	Probe bool          `json:"probe"`
	Sized bool          `json:"sized,omitempty"` // MeasureMTU's, of which all packets are kept
	Idle  time.Duration `json:"idle_ns"`
	Proto path.Proto    `json:"proto"`
	// Epoch is Meta.Epoch.
	Epoch int64 `json:"epoch"`
}

// endpointsRecord says what became, or is no longer, an end of the target.
type endpointsRecord struct {
	Add    []endpointRecord `json:"add,omitempty"`
	Remove []endpointRecord `json:"remove,omitempty"`
}

func newRecorder(cfg RecordConfig, version string, note func(string), live naming, namer flow.Namer) (*recorder, error) {
	r := &recorder{cfg: cfg, note: note, live: live, namer: namer, header: recording.NewHeader(version)}
	r.values, r.said, r.rules = newValueBook(), newSaidNames(), newRuleTapes()
	r.sights, r.named = newSights(), make(chan struct{})
	if err := r.openPart(); err != nil {
		return nil, err
	}
	go r.nameSights()
	return r, nil
}

// openPart begins a part. mu is held, or nobody else knows r yet.
func (r *recorder) openPart() error {
	file, err := r.cfg.Open(r.header.Part)
	if err != nil {
		return fmt.Errorf("open recording: %w", err)
	}
	if r.cfg.Redact != nil {
		file = newRedactedFile(file, r.cfg.Redact)
	}
	w, err := recording.NewWriter(file, r.header)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	r.writer, r.file = w, file
	r.result.Parts++
	return nil
}

// begin records how the trace begins.
func (r *recorder) begin(m Meta, session sessionRecord, ends []probe.Endpoint) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	session.Epoch = m.Epoch
	r.begun = []startRecord{{typeSession, session}, {typeMeta, m}}
	for _, s := range r.begun {
		r.put(s.typ, s.value, nil)
	}
	r.said.endpoints = map[probe.Endpoint]bool{}
	r.changeEndpoints(ends, nil)
}

// put writes a record; mu is held. What cannot be recorded is said once, as the recording would mislead.
func (r *recorder) put(typ string, value any, blob []byte) {
	if r.finished {
		return
	}
	if err := r.writer.Record(typ, value, blob); err != nil && r.result.Err == nil {
		r.result.Err = err
	}
}

// event records an event that the tracker is about to be given.
func (r *recorder) event(e *wire.Event) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished {
		return
	}
	if r.result.Events++; r.result.Events%sizeEvery == 0 {
		if r.watchSize(); r.finished {
			return
		}
	}
	r.nameEvent(e)
	r.writer.Event(e)
	r.sights.see(e, r.dropper(e))
}

// tick records that time is about to pass for the tracker. It is also when the recorder looks after
// itself.
func (r *recorder) tick(now uint64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished {
		return
	}
	r.writer.Tick(now)
	if now-r.clock >= uint64(clockEvery) {
		r.clock = now
		r.put(recording.TypeClock, recording.Now(), nil)
		if r.lost != nil {
			if n, by := r.lost(); n > 0 {
				r.put(typeLost, by, nil)
			}
		}
	}
	r.watchSize()
}

// watchSize ends the recording if it failed or reached its limit, and begins the next part. mu is held.
func (r *recorder) watchSize() {
	size := r.writer.Size()
	if err := r.writer.Err(); err != nil {
		r.finish()
		r.note(fmt.Sprintf("the recording ended, the trace goes on: %v", r.result.Err))
		return
	}
	switch {
	case r.cfg.Limit > 0 && r.earlier+size >= r.cfg.Limit:
		r.put(typeNote, "the recording ended here: it had reached its size limit", nil)
		r.result.Limited = true
		r.finish()
		r.note("the recording reached its size limit and ended; the trace goes on")
	case r.cfg.PartSize > 0 && size >= r.cfg.PartSize:
		r.nextPart()
	}
}

// nextPart ends a part and begins the next with what is needed to read it alone. mu is held.
func (r *recorder) nextPart() {
	r.put(typePart, r.header.Part+1, nil)
	if err := r.closePart(); err != nil {
		r.finished = true
		r.result.Bytes = r.earlier
		close(r.sights.queue)
		return
	}
	now := recording.Now()
	r.header.Part++
	r.header.WallNS, r.header.MonotonicNS = now.WallNS, now.MonotonicNS
	if err := r.openPart(); err != nil {
		r.result.Err, r.finished = err, true
		r.result.Bytes = r.earlier
		close(r.sights.queue)
		r.note(fmt.Sprintf("the recording ended, the trace goes on: %v", err))
		return
	}
	r.values = newValueBook()
	for _, s := range r.begun {
		r.put(s.typ, s.value, nil)
	}
	r.repeatNames()
	for _, t := range r.rules.all() {
		r.put(typeRules, t.rulesRecord, t.tape)
	}
	r.repeatExamination()
}

// closePart closes the part's file. mu is held.
func (r *recorder) closePart() error {
	err := r.writer.Close()
	r.earlier += r.writer.Size()
	if closed := r.file.Close(); err == nil && closed != nil {
		err = fmt.Errorf("close recording: %w", closed)
	}
	if r.result.Err == nil {
		r.result.Err = err
	}
	return err
}

// finish ends the recording; mu is held.
func (r *recorder) finish() {
	if r.finished {
		return
	}
	r.finished = true
	_ = r.closePart() // kept in result
	r.result.Bytes = r.earlier
	close(r.sights.queue)
}

// end closes the recording with the numbers of the trace.
func (r *recorder) end(st *Stats) *Recorded {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	if !r.finished {
		if st != nil {
			r.put(typeStats, st, nil)
		}
		r.finish()
	}
	out := r.result
	r.mu.Unlock()
	<-r.named // it asks about names, which the caller is about to close
	return &out
}

// mark records something that has no content.
func (r *recorder) mark(typ string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(typ, struct{}{}, nil)
}

// sentence records what people were told.
func (r *recorder) sentence(text string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(typeNote, text, nil)
}

// endpointRecord is an end of the target.
type endpointRecord struct {
	Addr  string `json:"addr"` // with the port
	Proto uint8  `json:"proto"`
}

// endpoints records a change of the target's ends.
func (r *recorder) endpoints(add, remove []probe.Endpoint) {
	if r == nil || len(add)+len(remove) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said.endpoints != nil { // else begin records all of them
		r.changeEndpoints(add, remove)
	}
}

func (r *recorder) changeEndpoints(add, remove []probe.Endpoint) {
	list := func(ends []probe.Endpoint) (out []endpointRecord) {
		for _, e := range ends {
			out = append(out, endpointRecord{e.Addr.String(), e.Proto})
		}
		return out
	}
	for _, e := range add {
		r.said.endpoints[e] = true
	}
	for _, e := range remove {
		delete(r.said.endpoints, e)
	}
	r.put(typeEndpoints, endpointsRecord{list(add), list(remove)}, nil)
}
