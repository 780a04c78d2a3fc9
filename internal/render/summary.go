package render

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Limits of the summary.
const (
	// maxClients is how many clients are counted apart; the rest share one row.
	maxClients = 4096
	// maxPlaces is how many different endings are counted apart per client.
	maxPlaces = 64
	// shownClients and shownPlaces keep the summary on a screen.
	shownClients = 20
	shownPlaces  = 3
	// otherClients and otherPlaces name what is not counted apart.
	otherClients = "other clients"
	otherPlaces  = "elsewhere"
)

// clientTally is what became of one client's flows.
type clientTally struct {
	name     string
	flows    int
	outcomes map[path.Outcome]int
	// places counts the flows that were not delivered by how and where they ended.
	places    map[string]int
	latencies latencies
}

func newClientTally(name string) *clientTally {
	return &clientTally{name: name, outcomes: map[path.Outcome]int{}, places: map[string]int{}}
}

// failures returns how many flows were not delivered.
func (c *clientTally) failures() int { return c.flows - c.outcomes[path.Delivered] }

// add counts one flow.
func (c *clientTally) add(v path.Verdict) {
	c.flows++
	c.outcomes[v.Outcome]++
	if v.LatencyNS != nil && v.LatencyNS.RoundTrip != 0 {
		c.latencies.add(v.LatencyNS.RoundTrip)
	}
	if v.Outcome == path.Delivered {
		return
	}
	where := string(v.Outcome)
	if w := whereText(v); w != "" {
		where += " in " + w
	}
	if v.Cause != "" {
		where += ": " + string(v.Cause)
	}
	if c.places[where] == 0 && len(c.places) >= maxPlaces {
		where = otherPlaces
	}
	c.places[where]++
}

// tally counts flows by client.
type tally struct {
	clients    map[string]*clientTally
	all        *clientTally
	incomplete int
	warnings   map[path.Cause]int
}

func newTally() *tally {
	return &tally{
		clients: map[string]*clientTally{}, all: newClientTally(""), warnings: map[path.Cause]int{},
	}
}

// add counts one flow.
func (t *tally) add(e ends, v path.Verdict) {
	name := cmp.Or(e.client(), "unknown client")
	c := t.clients[name]
	if c == nil {
		if len(t.clients) >= maxClients {
			name = otherClients
		}
		if c = t.clients[name]; c == nil {
			c = newClientTally(name)
			t.clients[name] = c
		}
	}
	c.add(v)
	t.all.add(v)
	if !v.Complete {
		t.incomplete++
	}
	for _, w := range v.Warnings {
		t.warnings[w.Cause]++
	}
}

// sorted returns the clients, most failures first, then most flows, then by name.
func (t *tally) sorted() []*clientTally {
	return slices.SortedFunc(maps.Values(t.clients), func(a, b *clientTally) int {
		return cmp.Or(cmp.Compare(b.failures(), a.failures()), cmp.Compare(b.flows, a.flows),
			cmp.Compare(a.name, b.name))
	})
}

// column is the title and the width of a number of a row.
type column struct {
	title string
	width int
}

// summaryColumns returns the columns that fit into width: on a narrow screen no latencies.
func summaryColumns(width int) []column {
	all := []column{
		{"flows", 6}, {"delivered", 11}, {"refused", 9}, {"dropped", 9}, {"lost", 6},
		{"min", 9}, {"median", 9}, {"p99", 9}, {"max", 9},
	}
	if width < 2+totalWidth(all) {
		return all[:5]
	}
	return all
}

// totalWidth returns the width of a row's numbers.
func totalWidth(cols []column) int {
	n := 0
	for _, c := range cols {
		n += c.width
	}
	return n
}

// write writes the summary of what was watched for wall ns.
func (t *tally) write(out *printer, wall int64) {
	if t.all.flows == 0 {
		out.paragraph("no flow was seen in "+path.FormatDuration(wall), bold)
		return
	}
	out.line()
	out.line(span{path.FormatCount(len(t.clients), "client") + ", " + path.FormatCount(t.all.flows, "flow") + " in " + path.FormatDuration(wall), bold})
	cols := summaryColumns(out.width)
	var titles []string
	for _, c := range cols {
		titles = append(titles, c.title)
	}
	writeRow(out, cols, "client", titles, dim)
	clients := t.sorted()
	for _, c := range clients[:min(len(clients), shownClients)] {
		c.write(out, cols)
	}
	if more := len(clients) - shownClients; more > 0 {
		out.line(span{"  … and " + path.FormatCount(more, "more client"), dim})
	}
	if len(clients) > 1 {
		writeRow(out, cols, "all", t.all.numbers(), bold)
	}
	t.writeRemarks(out)
}

// writeRemarks writes what concerns the whole watch.
func (t *tally) writeRemarks(out *printer) {
	for _, cause := range slices.Sorted(maps.Keys(t.warnings)) {
		labelled(out, "warning", yellow, string(cause)+" on "+path.FormatCount(t.warnings[cause], "flow"))
	}
	if t.incomplete > 0 {
		labelled(out, "lost", red, "the paths of "+path.FormatCount(t.incomplete, "flow")+" may have gaps")
	}
}

// numbers returns the columns of a row.
func (c *clientTally) numbers() []string {
	out := []string{strconv.Itoa(c.flows)}
	for _, o := range []path.Outcome{path.Delivered, path.Refused, path.Dropped, path.Lost} {
		out = append(out, strconv.Itoa(c.outcomes[o]))
	}
	return append(out, c.latencies.texts()...)
}

// write writes a client's row and below it how and where its failed flows ended.
func (c *clientTally) write(out *printer, cols []column) {
	st := plain
	if c.failures() > 0 {
		st = yellow
	}
	writeRow(out, cols, c.name, c.numbers(), st)
	places := slices.SortedFunc(maps.Keys(c.places), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.places[b], c.places[a]), cmp.Compare(a, b))
	})
	for i, place := range places {
		if i == shownPlaces {
			out.line(span{"      … and " + path.FormatCount(len(places)-i, "more ending"), dim})
			break
		}
		out.paragraph(strconv.Itoa(c.places[place])+" "+place, red, span{"      ", plain})
	}
}

// writeRow writes a name and numbers; a name that is too long gets a line of its own.
func writeRow(out *printer, cols []column, name string, numbers []string, st style) {
	row := ""
	for i, c := range cols {
		row += padLeft(numbers[i], c.width)
	}
	width := out.width - 2 - columns(row)
	if columns(name) > width {
		out.line(span{"  " + shorten(name, out.width-2), st})
		name = ""
	}
	out.line(span{"  " + pad(name, width), st}, span{row, plain})
}
