package metrics

import (
	"errors"
	"io"
	"math"
	"net/http"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"
)

// samples are a thousand times from 1 µs to 1 ms, and three that are too short to be seen.
func samples(yield func(ns, count int64) bool) {
	if !yield(0, 3) {
		return
	}
	for i := int64(1); i <= 1000; i++ {
		if !yield(i*1000, 1) {
			return
		}
	}
}

func source() ([]Series, []Counter) {
	return []Series{
		{Target: "web:80", Direction: "round_trip", Count: 1003, Sum: 500_500_000, Buckets: samples},
		{Target: "web:80", Direction: "request", Kind: "bridge", Count: 1003, Sum: 500_500_000, Buckets: samples},
	}, []Counter{{Target: "web:80", Why: "retransmission", Value: 2}}
}

// get asks for the metrics in a format.
func get(t *testing.T, url, accept string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s", resp.Status, body)
	}
	return resp
}

func listen(t *testing.T) string {
	t.Helper()
	s, err := Listen("127.0.0.1:0", source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return "http://" + s.Addr().String() + "/metrics"
}

// TestNativeHistograms reads them as a Prometheus server does, in the protobuf format.
func TestNativeHistograms(t *testing.T) {
	resp := get(t, listen(t), string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	families := map[string]*dto.MetricFamily{}
	body := newByteReader(resp.Body)
	for {
		f := &dto.MetricFamily{}
		err := protodelim.UnmarshalFrom(body, f)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		families[f.GetName()] = f
	}
	for _, name := range []string{"pathtrace_latency_seconds", "pathtrace_latency_segment_seconds"} {
		f := families[name]
		if f == nil || len(f.Metric) != 1 {
			t.Fatalf("%s: %v", name, f)
		}
		checkNative(t, name, f.Metric[0].Histogram)
	}
	labels := families["pathtrace_latency_segment_seconds"].Metric[0].Label
	if got := labels[1].GetName() + "=" + labels[1].GetValue(); got != "kind=bridge" {
		t.Errorf("labels %v", labels)
	}
	if n := families["pathtrace_latency_discarded_total"].Metric[0].Counter.GetValue(); n != 2 {
		t.Errorf("%v samples left out, want 2", n)
	}
}

// checkNative finds the median of the samples in the buckets, within their width.
func checkNative(t *testing.T, name string, h *dto.Histogram) {
	t.Helper()
	if h.GetSampleCount() != 1003 || h.GetZeroCount() != 3 || math.Abs(h.GetSampleSum()-0.5005) > 1e-9 || h.GetSchema() != schema {
		t.Fatalf("%s: %d samples, %d of zero, sum %v, schema %d", name, h.GetSampleCount(), h.GetZeroCount(), h.GetSampleSum(), h.GetSchema())
	}
	index, count, upTo, at := int32(0), int64(0), int64(3), int64(0)
	for _, span := range h.PositiveSpan {
		index += span.GetOffset()
		for range span.GetLength() {
			count += h.PositiveDelta[at]
			at++
			if upTo += count; upTo >= 502 {
				upper := math.Exp2(float64(index) / (1 << schema))
				if upper < 0.000499 || upper > 0.000499*1.03 {
					t.Errorf("%s: the median's bucket ends at %v s, want just above 499 µs", name, upper)
				}
				return
			}
			index++
		}
	}
	t.Errorf("%s: the buckets hold %d samples", name, upTo)
}

// TestText: the text format, which has no native histograms, can be parsed all the same.
func TestText(t *testing.T) {
	resp := get(t, listen(t), "text/plain")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if h := families["pathtrace_latency_seconds"].Metric[0].Histogram; h.GetSampleCount() != 1003 {
		t.Errorf("%v", h)
	}
}

func TestListenRefuses(t *testing.T) {
	if s, err := Listen("127.0.0.1:99999", source); err == nil {
		s.Close()
		t.Error("port 99999 was opened")
	}
}

// byteReader gives protodelim the single bytes it wants.
type byteReader struct{ io.Reader }

func newByteReader(r io.Reader) *byteReader { return &byteReader{r} }

func (r *byteReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}
