package firewall

import "slices"

const (
	// maxDepth bounds jumps within jumps; nf_tables allows 16 (NFT_JUMP_STACK_SIZE), x_tables more.
	maxDepth = 64
	// maxJudged bounds the rules that one walk judges: chains that many doubtful jumps lead to are
	// walked once for each.
	maxJudged = 100_000
	// maxDoubts bounds the doubts that are named, with each of which a candidate may be.
	maxDoubts = 8
)

// moreDoubts stands for the doubts that are not named.
const moreDoubts = "more of that kind"

// Walk is what the rules of one hook do with a packet.
type Walk struct {
	// Steps are the rules and policies that surely decided something, in order.
	Steps []Step
	// Candidates are the rules and policies that could have ended or translated the packet, in order.
	Candidates []Candidate
	// Passed says whether the packet came through the hook.
	Passed Truth
	// Bounded is set if the walk was given up: there may be more candidates.
	Bounded bool
}

// Step is a rule that surely matched.
type Step struct {
	Chain   *Chain
	Rule    *Rule // nil: the chain's policy
	Verdict Verdict
}

// Walk follows the packet through the chains that its hook calls. A rule that cannot be judged splits
// the way: what comes after it is no longer sure.
func (r *Ruleset) Walk(p *Packet) Walk { return r.WalkWithout(p) }

// WalkWithout is Walk as if some rules were not there.
func (r *Ruleset) WalkWithout(p *Packet, gone ...*Rule) Walk {
	w := walker{p: p, gone: gone, alive: Yes, noted: map[*Rule]bool{}, chains: map[*Table]map[string]*Chain{}}
	for _, group := range r.baseChains(p) {
		w.group(group)
		if w.alive == No {
			break
		}
	}
	w.out.Passed = w.alive
	return w.out
}

// walker is a packet on its way through one hook.
type walker struct {
	p      *Packet
	gone   []*Rule // passed over
	now    *Packet // the packet as the present chain sees it
	out    Walk
	judged int
	stack  []frame
	// alive says whether the packet reached the present base chain, at whether it is at the present
	// rule, if it is alive.
	alive, at Truth
	// dropped and translated are what the present chain did, untracked what all so far did.
	dropped, translated, untracked Truth
	// doubts names what earlier rules left open.
	doubts []string
	noted  map[*Rule]bool               // the rules among the candidates
	chains map[*Table]map[string]*Chain // of the tables in which there are jumps
}

// frame is a chain that is being walked and the rule that led to it.
type frame struct {
	chain *Chain
	by    *Rule
}

// group walks base chains of one priority. Which of them the kernel calls first depends on the order
// in which they were made, so each is walked, and what several of them do is not sure of any.
func (w *walker) group(chains []*Chain) {
	first, alive := len(w.out.Candidates), w.alive
	ended, translated := No, No
	for _, c := range chains {
		if c.Type == "nat" && translated == Yes {
			break
		}
		w.alive = alive
		w.base(c)
		ended = max(ended, w.dropped)
		translated = max(translated, w.translated)
	}
	w.alive = min(alive, ended.Not())
	found := w.out.Candidates[first:]
	if several(found) {
		for i := range found {
			found[i].Sure = false
			found[i].Unjudged = appendNew(found[i].Unjudged, "which of the chains of this priority is called first")
		}
	}
}

// several reports whether the candidates that end the packet are of several base chains.
func several(list []Candidate) bool {
	var base *Chain
	for i := range list {
		if !list[i].Verdict.Ends() || list[i].Verdict.Translates() {
			continue
		}
		if base != nil && base != list[i].Base {
			return true
		}
		base = list[i].Base
	}
	return false
}

// base walks a chain that the kernel calls, and its policy.
func (w *walker) base(c *Chain) {
	w.at, w.dropped, w.translated = Yes, No, No
	w.now = w.p.at(c).untracked(w.untracked)
	doubts := w.doubts
	if c.Type == "nat" {
		if w.at = w.now.needsNAT(); w.at == No {
			return
		}
	}
	w.chain(c, nil)
	if c.Policy == Drop && w.at != No {
		w.end(c, nil, Verdict{Kind: Drop}, w.at, nil)
	} else if w.sure() {
		w.out.Steps = append(w.out.Steps, Step{Chain: c, Verdict: Verdict{Kind: Accept}})
	}
	w.alive = min(w.alive, w.dropped.Not())
	if w.dropped == No {
		w.doubts = doubts // whatever it was, the packet came through
	}
}

// sure reports whether the packet is surely at the present rule.
func (w *walker) sure() bool { return min(w.alive, w.at) == Yes }

// chain walks the rules of a chain. Afterwards w.at says whether the packet came out of it by its end
// or by a return, as opposed to a verdict.
func (w *walker) chain(c *Chain, by *Rule) {
	if len(w.stack) >= maxDepth || w.isInside(c) {
		w.out.Bounded = true
		w.at = min(w.at, Maybe)
		return
	}
	w.stack = append(w.stack, frame{c, by})
	entered := w.at
	lost, returned := false, No
	for _, r := range c.Rules {
		if w.at == No {
			break
		}
		if slices.Contains(w.gone, r) {
			continue
		}
		if w.judged++; w.judged > maxJudged {
			w.out.Bounded = true
			break
		}
		back, ends := w.rule(r)
		returned = max(returned, back)
		lost = lost || ends
	}
	w.stack = w.stack[:len(w.stack)-1]
	switch {
	case !lost:
		w.at = entered // all ways lead back
	case w.at != No || returned != No:
		w.at = Maybe
	}
}

func (w *walker) isInside(c *Chain) bool {
	return slices.ContainsFunc(w.stack, func(f frame) bool { return f.chain == c })
}

// rule lets one rule judge the packet. back says whether it returned from the chain, ends whether the
// rule, or one that it led to, may have ended the walk of the base chain.
func (w *walker) rule(r *Rule) (back Truth, ends bool) {
	j := r.Body.Judge(w.now)
	if j.Match == No {
		return No, false
	}
	if j.Match == Yes && w.sure() {
		w.out.Steps = append(w.out.Steps, Step{Chain: r.Chain, Rule: r, Verdict: j.Verdict})
	}
	if j.Verdict.Untracks {
		w.untracked = max(w.untracked, min(w.alive, w.at, j.Match))
	}
	switch j.Verdict.Kind {
	case Continue:
		return No, false
	case Jump, Goto:
		return w.jump(r, j)
	case Return:
		back = min(w.at, j.Match)
		w.leave(j)
		return back, false
	case Accept:
		w.leave(j)
		return No, true
	}
	w.end(r.Chain, r, j.Verdict, min(w.at, j.Match), j.Unjudged)
	w.leave(j)
	return No, true
}

// leave takes the packet away from the present chain, as far as the rule surely matched.
func (w *walker) leave(j Judgement) {
	if j.Match == Yes && j.Verdict.Kind != Unknown {
		w.at = No
		return
	}
	w.at = min(w.at, Maybe)
	w.doubt(j.Unjudged)
}

func (w *walker) doubt(unjudged []string) {
	w.doubts = appendNew(slices.Clip(w.doubts), unjudged...)
}

// jump walks the chain that a rule leads to.
func (w *walker) jump(r *Rule, j Judgement) (back Truth, ends bool) {
	to := w.find(r.Chain.Table, j.Verdict.Chain)
	if to == nil {
		w.out.Bounded = true
		return No, false
	}
	before := w.at
	w.at = min(w.at, j.Match)
	if j.Match == Maybe {
		w.doubt(j.Unjudged)
	}
	entered := w.at
	w.chain(to, r)
	came := w.at
	ends = came != entered
	if j.Verdict.Kind == Goto {
		// The end of that chain returns from this one.
		if w.at = No; j.Match == Maybe {
			w.at = min(before, Maybe)
		}
		return came, ends
	}
	switch {
	case j.Match == Yes: // w.at is how it came back
	case ends:
		w.at = min(before, Maybe)
	default:
		w.at = before
	}
	return No, ends
}

// find returns the chain of that name.
func (w *walker) find(t *Table, name string) *Chain {
	chains := w.chains[t]
	if chains == nil {
		chains = t.byName()
		w.chains[t] = chains
	}
	return chains[name]
}

// end notes a rule or policy that could have ended or translated the packet; reached is the truth of
// that within the base chain.
func (w *walker) end(c *Chain, r *Rule, v Verdict, reached Truth, unjudged []string) {
	sure := min(w.alive, reached) == Yes && v.Kind != Unknown
	k := Candidate{Chain: c, Rule: r, Base: c, Verdict: v, Sure: sure}
	if len(w.stack) > 0 {
		k.Base = w.stack[0].chain
	}
	for _, f := range w.stack {
		if f.by != nil {
			k.Via = append(k.Via, f.by)
		}
	}
	if !sure {
		k.Unjudged = appendNew(slices.Clone(unjudged), w.doubts...)
	}
	if r == nil || !w.noted[r] {
		w.out.Candidates = append(w.out.Candidates, k)
	}
	if r != nil {
		w.noted[r] = true
	}
	switch {
	case v.Translates():
		w.translated = max(w.translated, reached)
	case v.Kind == Drop, v.Kind == Reject:
		w.dropped = max(w.dropped, reached)
	default:
		w.dropped = max(w.dropped, min(reached, Maybe))
	}
}

// appendNew adds doubts that are not in the list, of which maxDoubts are named.
func appendNew(list []string, more ...string) []string {
	for _, s := range more {
		switch {
		case slices.Contains(list, s), len(list) > maxDoubts:
		case len(list) == maxDoubts:
			list = append(list, moreDoubts)
		default:
			list = append(list, s)
		}
	}
	return list
}
