//go:build e2e && bench

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// crowdNetworks is on how many networks the containers of a crowd are.
const crowdNetworks = 20

// benchCrowd measures a host with many containers, networks and rules: real ones, of an engine of its
// own. A short run has a tenth of the containers.
func benchCrowd(t *testing.T, b *bench) {
	h := spare(t, plain)
	count := b.pick(50, 500)
	nets := make([]*network, crowdNetworks)
	for i := range nets {
		nets[i] = h.network(t, "--subnet", fmt.Sprintf("10.214.%d.0/24", i))
	}
	web, client := nets[0].server(t), nets[0].client(t)
	h.fill(t, nets, count-2)
	h.crowd(t)
	what := fmt.Sprintf("%d containers, %d networks, %d rules: ", count, crowdNetworks, manyRules)
	var ready, verdict []float64
	for i := range b.pick(4, 10) + 1 {
		time.Sleep(200 * time.Millisecond) // as in startUp
		cmd := b.command(h, "--from", client.Name, "--to", web.Name+":80", "--timeout", "10s")
		out, took := b.launch(t, filepath.Join("/run/netns", h.NetNS), cmd)
		start := time.Now()
		line := ""
		for !strings.HasPrefix(line, `{"type":"verdict"`) {
			var err error
			line, err = out.ReadString('\n')
			check(t, err)
		}
		waited := time.Since(start)
		finish(t, cmd, out)
		if !strings.Contains(line, "firewall-drop") {
			t.Errorf("not dropped by the last rule: %s", line)
		}
		if i > 0 { // the first reads files from the disk
			ready, verdict = append(ready, took.Seconds()*1e3), append(verdict, waited.Seconds()*1e3)
		}
	}
	b.report.atMost(what+"ready", median(ready), 500, "%.0f ms", fmt.Sprintf("fastest %.0f ms", quantile(ready, 0)))
	b.report.atMost(what+"verdict", median(verdict), 1000, "%.0f ms",
		fmt.Sprintf("after ready; fastest %.0f ms", quantile(verdict, 0)))
	cmd := b.command(h, "--to", web.Name+":80")
	out, _ := b.launch(t, filepath.Join("/run/netns", h.NetNS), cmd)
	idle(t, cmd.Process.Pid)
	b.report.info(what+"memory while watching", "%.1f MB", status(t, cmd.Process.Pid, "VmRSS:"))
	finish(t, cmd, out)
}

// fill starts containers that do nothing on all networks, and removes them with the test.
func (h *host) fill(t *testing.T, nets []*network, count int) {
	t.Helper()
	names := make([]string, count)
	each := func(do func(i int) error) error {
		var group errgroup.Group
		group.SetLimit(4)
		for i := range names {
			group.Go(func() error { return do(i) })
		}
		return group.Wait()
	}
	for i := range names {
		names[i] = unique("box")
	}
	t.Cleanup(func() { check(t, each(func(i int) error { return h.docker("rm", "-f", names[i]) })) })
	check(t, each(func(i int) error {
		return h.docker("run", "-d", "--name", names[i], "--network", nets[i%len(nets)].Name, image, "idle")
	}))
}
