//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func itoa(n uint16) string { return strconv.Itoa(int(n)) }

// gets opens connections from inside the container and reads their answers.
func (c *container) gets(addr string, n int) error {
	return c.h.docker("exec", c.Name, "/bin/ptserver", "get", addr, strconv.Itoa(n))
}

// TestWatchMany watches 200 connections of 5 clients made at the same time: each is accounted for.
func TestWatchMany(t *testing.T) {
	h := need(t).Hosts[0]
	const clients, each = 5, 40
	n := h.network(t)
	web := n.server(t)
	var names []string
	var list []*container
	for range clients {
		c := n.client(t)
		list, names = append(list, c), append(names, c.Name)
	}
	for _, output := range []string{"json", "text"} {
		p := h.launch(t, "--to", web.Name+":80", "--count", strconv.Itoa(clients*each), "--duration", "60s", "-o", output)
		p.ready()
		var wg sync.WaitGroup
		for _, c := range list {
			wg.Go(func() {
				if err := c.gets(web.Name+":80", each); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		r := p.wait()
		if r.status != statusDelivered {
			t.Errorf("%s: exit status %d\n%s%s", output, r.status, r.stderr, tailOf(r.stdout))
		}
		if output == "json" {
			r.accounts(names, each)
			continue
		}
		for _, name := range names {
			if !hasRow(r.stdout, name, each) {
				t.Errorf("no row with %d delivered flows of %s in\n%s", each, name, tailOf(r.stdout))
			}
		}
	}
}

// accounts checks that every client has so many delivered flows.
func (r *result) accounts(names []string, each int) {
	r.t.Helper()
	count := map[string]int{}
	for _, v := range r.verdicts {
		if v.Outcome != path.Delivered || v.LostEvents != 0 || !v.Complete {
			r.t.Errorf("%+v", v)
		}
		count[v.SrcName]++
	}
	for _, name := range names {
		if count[name] != each {
			r.t.Errorf("client %s: got %d flows, want %d", name, count[name], each)
		}
	}
	if r.stats == nil || r.stats.LostEvents != 0 || len(r.verdicts) != each*len(names) {
		r.t.Errorf("%d verdicts, stats %+v", len(r.verdicts), r.stats)
	}
}

// hasRow tells whether the summary has a row "name (address) n n": so many flows, all delivered.
//
// A name with an address that is too long for its column has its numbers on the line below.
func hasRow(text, name string, n int) bool {
	words := strings.Fields(text)
	for i := range words {
		if words[i] == name && i+3 < len(words) && words[i+2] == strconv.Itoa(n) && words[i+3] == words[i+2] {
			return true
		}
	}
	return false
}

func tailOf(text string) string { return text[max(0, len(text)-2000):] }

// TestWatchPublished watches connections by the published port and by the container's own.
func TestWatchPublished(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	at := web.published("80/tcp")
	watch := h.launch(t, "--to", at.String(), "--count", "1", "-o", "json")
	watch.ready()
	getFrom(t, filepath.Join("/run/netns", shared.Outside), at.String())
	r := watch.wait()
	if len(r.verdicts) != 1 || r.status != statusDelivered || r.verdicts[0].SrcName != shared.Outside ||
		!containsHop(r, hop{Container: web.Name, Direction: path.Request, Action: path.ActionDeliver}) {
		t.Errorf("%s: status %d, verdicts %+v", at, r.status, r.verdicts)
	}
	for _, to := range []string{web.Name + ":80", fmt.Sprintf("%s:%d", web.Name, at.Port())} {
		p := h.launch(t, "--to", to, "--count", "2", "-o", "json")
		p.ready()
		getFrom(t, filepath.Join("/run/netns", shared.Outside), at.String())
		check(t, client.gets(web.Name+":80", 1))
		r := p.wait()
		if len(r.verdicts) != 2 || r.status != statusDelivered {
			t.Fatalf("%s: status %d, verdicts %+v", to, r.status, r.verdicts)
		}
		sources := map[string]string{}
		for _, v := range r.verdicts {
			sources[v.SrcName] = v.Dst
		}
		if sources[shared.Outside] != at.String() || sources[client.Name] != web.addr(n).String()+":80" {
			t.Errorf("%s: from whom to what: %v", to, sources)
		}
	}
}

// getFrom runs the test server's client in a namespace of the machine.
func getFrom(t *testing.T, namespace, addr string) {
	t.Helper()
	inNetNS(t, namespace, filepath.Join(shared.Dir, "bin", "ptserver"), "get", addr)
}

// TestStartedWhileWatching starts the client, then the target anew, during the trace.
func TestStartedWhileWatching(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t)
	p := h.launch(t, "--to", web.Name+":80", "-o", "json")
	p.ready()
	verdict := func(name string) {
		t.Helper()
		p.until("verdict about "+name, func(line string) bool {
			return strings.HasPrefix(line, `{"type":"verdict"`) && strings.Contains(line, `"src_name":"`+name+`"`) &&
				strings.Contains(line, `"outcome":"delivered"`)
		})
	}
	late := n.client(t)
	check(t, late.gets(web.Name+":80", 1))
	verdict(late.Name)
	h.must(t, "restart", "-t", "0", web.Name)
	web.listens("tcp", ":80")
	check(t, late.gets(web.Name+":80", 1))
	verdict(late.Name)
	p.interrupt()
	r := p.wait()
	if r.status != statusDelivered || len(r.verdicts) != 2 {
		t.Errorf("status %d, verdicts %+v", r.status, r.verdicts)
	}
	for _, name := range []string{late.Name, web.Name} {
		if !containsHop(r, hop{Container: name, Device: "eth0"}) {
			t.Errorf("no hop in container %s", name)
		}
	}
}

func containsHop(r *result, p hop) bool {
	for _, h := range r.hops {
		if p.matches(h) {
			return true
		}
	}
	return false
}

// TestWatchFailures watches connections that are refused and dropped, among delivered ones.
func TestWatchFailures(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, good, bad := n.server(t), n.client(t), n.client(t)
	rule(t, h.do, "filter", "DOCKER-USER", "-p", "tcp", "-s", bad.addr(n).String(), "--dport", "80", "-j", "REJECT")
	p := h.launch(t, "--to", web.Name+":80", "--count", "4")
	p.ready()
	check(t, good.gets(web.Name+":80", 3))
	if bad.gets(web.Name+":80", 1) == nil {
		t.Error("the rule does nothing")
	}
	r := p.wait()
	if r.status != statusNotDelivered {
		t.Errorf("exit status %d", r.status)
	}
	r.has(string(path.CauseFirewallReject))
	if !hasRow(r.stdout, good.Name, 3) {
		t.Errorf("no row of %s in\n%s", good.Name, r.stdout)
	}
}

// TestSilence: after 3 s without traffic it says what to try, and the status says that none was seen.
func TestSilence(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t)
	for _, output := range []string{"text", "json"} {
		start := time.Now()
		p := h.launch(t, "--to", web.Name+":80", "--duration", "3500ms", "-o", output)
		p.ready()
		r := p.wait()
		if r.status != statusNoTraffic {
			t.Errorf("%s: exit status %d", output, r.status)
		}
		if took := time.Since(start); took < 3500*time.Millisecond || took > 8*time.Second {
			t.Errorf("%s: it took %v", output, took)
		}
		if !strings.Contains(flat(r.stdout+r.stderr), "--from SOURCE --to "+web.Name+":80") {
			t.Errorf("%s: no hint in\n%s%s", output, r.stdout, r.stderr)
		}
		if output == "json" && (len(r.verdicts) != 1 || r.verdicts[0].Outcome != path.NoTraffic) {
			t.Errorf("verdicts %+v", r.verdicts)
		}
	}
}

// TestContainerRemoved removes the target during the trace.
func TestContainerRemoved(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t), n.client(t)
	p := h.launch(t, "--to", web.Name+":80", "-o", "json")
	p.ready()
	check(t, client.gets(web.Name+":80", 1))
	p.until("verdict", func(line string) bool { return strings.HasPrefix(line, `{"type":"verdict"`) })
	h.must(t, "rm", "-f", web.Name)
	p.interrupt()
	r := p.wait()
	if r.status != statusDelivered || len(r.verdicts) != 1 || r.verdicts[0].DstName != web.Name {
		t.Errorf("status %d, verdicts %+v\n%s", r.status, r.verdicts, r.stderr)
	}
}
