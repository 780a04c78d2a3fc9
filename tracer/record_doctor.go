package tracer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/doctor"
	"github.com/pathtrace/pathtrace/internal/firewall/tape"
)

// doctorRecord is what an examination read of its hosts. In a redacted recording, whose facts would say
// too much (files of the host, every address), it is what was found.
type doctorRecord struct {
	Hosts []hostRecord `json:"hosts,omitempty"`
	// Spaces are the namespaces that were read.
	Spaces []doctorSpace `json:"spaces,omitempty"`
	// Found is the result, in place of the above.
	Found   *foundRecord  `json:"found,omitempty"`
	Skipped []string      `json:"skipped,omitempty"`
	Took    time.Duration `json:"took_ns"`
}

// hostRecord is a doctor.Host without the namespaces, which are told by their inodes.
type hostRecord struct {
	doctor.Host
	NetNS uint32 `json:"netns"`
	// Inodes are those of the containers, in their order; 0 where there is none.
	Inodes []uint32 `json:"inodes,omitempty"`
}

// doctorSpace is a doctor.Namespace whose rules are the number of a reading.
type doctorSpace struct {
	doctor.Namespace
	Reading int `json:"reading,omitempty"`
}

// foundRecord is the result of an examination.
type foundRecord struct {
	Findings   []Finding `json:"findings"`
	Containers int       `json:"containers"`
	Networks   int       `json:"networks"`
	Namespaces int       `json:"namespaces"`
}

// describe puts what was read into a record; number says which reading the rules of a namespace are of.
func (e *examined) describe(number func(*doctor.Namespace) int) doctorRecord {
	rec := doctorRecord{Skipped: e.skipped, Took: e.took}
	for _, ns := range e.namespaces {
		space := doctorSpace{*ns, number(ns)}
		space.Rules = nil
		rec.Spaces = append(rec.Spaces, space)
	}
	for _, h := range e.hosts {
		out := hostRecord{Host: *h}
		if h.NS != nil {
			out.NetNS = h.NS.Inode
		}
		out.NS, out.Namespaces, out.Containers = nil, nil, nil
		for _, c := range h.Containers {
			bare, inode := *c, uint32(0)
			if c.NS != nil {
				inode = c.NS.Inode
			}
			bare.NS = nil
			out.Containers, out.Inodes = append(out.Containers, &bare), append(out.Inodes, inode)
		}
		rec.Hosts = append(rec.Hosts, out)
	}
	return rec
}

// read makes of a record what was read; rules gives the rules of a reading.
func (rec *doctorRecord) read(rules *ruleShelf) (*examined, error) {
	e := &examined{namespaces: map[uint32]*doctor.Namespace{}, skipped: rec.Skipped, took: rec.Took}
	for i := range rec.Spaces {
		ns := &rec.Spaces[i].Namespace
		ns.Rules = rules.ruleset(rec.Spaces[i].Reading)
		e.namespaces[ns.Inode] = ns
	}
	for i := range rec.Hosts {
		h := &rec.Hosts[i].Host
		h.Namespaces = e.namespaces
		h.NS = e.namespaces[rec.Hosts[i].NetNS]
		if h.NS == nil || len(rec.Hosts[i].Inodes) != len(h.Containers) || slices.Contains(h.Containers, nil) {
			return nil, fmt.Errorf("what it says of host %q does not fit together", h.Name)
		}
		for j, c := range h.Containers {
			c.NS = e.namespaces[rec.Hosts[i].Inodes[j]]
		}
		e.hosts = append(e.hosts, h)
	}
	return e, nil
}

// examinePatience bounds the examination of the host that goes into a recording.
const examinePatience = 10 * time.Second

// examine reads for the recording what doctor reads, beside the trace. It returns at once; the recorder
// waits for it before it ends.
func (s *session) examine() {
	if s.rec == nil || !s.t.cfg.Record.Examine {
		return
	}
	d := &examiner{
		cfg:  DoctorConfig{DockerHosts: s.t.cfg.DockerHosts, NoDocker: s.t.cfg.NoDocker, Log: s.t.cfg.Log},
		topo: s.t.topo, engines: s.t.engines, labels: s.t.labels, rules: newRuleBook(s.t.topo.InNamespace, s.t.cfg.Log),
		read: map[uint32]*doctor.Namespace{},
	}
	d.rules.onRead = s.rec.readExamined
	s.examination.Add(1)
	go func() {
		defer s.examination.Done()
		ctx, cancel := context.WithTimeout(context.Background(), examinePatience)
		defer cancel()
		err := d.findLacking()
		if err == nil {
			var e *examined
			if e, err = d.examine(ctx); err == nil {
				s.rec.examined(e.describe(func(ns *doctor.Namespace) int { return d.rules.number(ns.Inode, ns.Rules) }))
				return
			}
		}
		s.rec.sentence(fmt.Sprintf("the host was not examined, replay --doctor has nothing to show: %v", err))
	}()
}

// examination is what a recording has of an examination, for its next parts.
type examination struct {
	record json.RawMessage // a doctorRecord
	tapes  []rulesTape
	size   int64 // of both, before compression
}

// readExamined records rules that the examination read, and numbers them.
func (r *recorder) readExamined(inode uint32, reading *ruleReading, t *tape.Tape) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.numbered(inode, reading, t)
	r.exam.tapes = append(r.exam.tapes, rec)
	r.exam.size += int64(len(rec.tape))
}

// examined records what was read of the host.
func (r *recorder) examined(rec doctorRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := json.Marshal(rec)
	if err != nil {
		r.result.Err = cmp.Or(r.result.Err, err)
		return
	}
	r.exam.record, r.exam.size = text, r.exam.size+int64(len(text))
	r.put(typeDoctor, r.exam.record, nil)
}

// repeatExamination records the examination again, unless it would fill the part. mu is held.
func (r *recorder) repeatExamination() {
	if r.exam.record == nil || r.exam.size > r.cfg.PartSize {
		return
	}
	for _, t := range r.exam.tapes {
		r.put(typeRules, t.rulesRecord, t.tape)
	}
	r.put(typeDoctor, r.exam.record, nil)
}
