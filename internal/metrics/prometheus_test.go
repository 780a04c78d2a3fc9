package metrics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// server starts a Prometheus server that scrapes target, and returns its address.
func server(t *testing.T, target string) string {
	t.Helper()
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("no prometheus on this machine: run scripts/install-test-needs.sh")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0") // it does not tell which port it took
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs: [{job_name: pathtrace, static_configs: [{targets: [%q]}]}]\n", target)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", address, "--enable-feature=native-histograms")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = cmd.Wait()                       // what it says is in its log
		if t.Failed() {
			t.Logf("%s", log.Bytes())
		}
	})
	return address
}

// query asks the server for a number until it has one.
func query(t *testing.T, address, expression string) float64 {
	t.Helper()
	var last string
	for limit := time.Now().Add(2 * time.Minute); time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(expression))
		if err != nil {
			last = err.Error()
			continue // it is starting
		}
		var answer struct {
			Error string
			Data  struct{ Result []struct{ Value [2]any } }
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err == nil && len(answer.Data.Result) == 1 {
			text, _ := answer.Data.Result[0].Value[1].(string)
			n, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatalf("%s: %v", expression, err)
			}
			return n
		}
		last = fmt.Sprintf("%v, %+v", err, answer)
	}
	t.Fatalf("%s: no answer: %s", expression, last)
	return 0
}

// TestPrometheus: a real server scrapes the histograms as native ones and computes quantiles from them.
func TestPrometheus(t *testing.T) {
	address := server(t, strings.TrimSuffix(strings.TrimPrefix(listen(t), "http://"), "/metrics"))
	for _, tt := range []struct {
		expression string
		want, off  float64
	}{
		{`histogram_count(pathtrace_latency_seconds{target="web:80",direction="round_trip"})`, 1003, 0},
		{`histogram_sum(pathtrace_latency_seconds)`, 0.5005, 1e-9},
		{`histogram_quantile(0.5, pathtrace_latency_seconds)`, 0.000499, 0.03 * 0.000499},
		{`histogram_quantile(0.99, pathtrace_latency_segment_seconds{kind="bridge",direction="request"})`, 0.00099, 0.03 * 0.00099},
		{`pathtrace_latency_discarded_total{why="retransmission"}`, 2, 0},
	} {
		if got := query(t, address, tt.expression); math.Abs(got-tt.want) > tt.off {
			t.Errorf("%s is %v, want %v within %v", tt.expression, got, tt.want, tt.off)
		}
	}
}
