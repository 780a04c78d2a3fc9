package latency

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Threshold is a limit for a quantile of the round trip.
type Threshold struct {
	Text     string  // as given
	Quantile float64 // 0 to 1; 0 is the minimum, 1 the maximum
	Limit    time.Duration
}

// ParseThreshold reads "p99=2ms", "p99.9=5ms", "max=20ms" or "min=100us".
func ParseThreshold(text string) (Threshold, error) {
	name, limit, ok := strings.Cut(text, "=")
	if !ok {
		return Threshold{}, fmt.Errorf("threshold %q has no limit: give one as in p99=2ms", text)
	}
	q, err := ParseQuantile(strings.TrimSpace(name))
	if err != nil {
		return Threshold{}, fmt.Errorf("threshold %q: %w", text, err)
	}
	d, err := time.ParseDuration(strings.TrimSpace(limit))
	if err != nil || d <= 0 {
		return Threshold{}, fmt.Errorf("threshold %q: %q is no time: give one as in p99=2ms", text, limit)
	}
	return Threshold{Text: text, Quantile: q, Limit: d}, nil
}

// ParseQuantile reads "min", "max", or p and a per cent value, such as "p99.9".
func ParseQuantile(name string) (float64, error) {
	switch name {
	case "min":
		return 0, nil
	case "max":
		return 1, nil
	}
	digits, ok := strings.CutPrefix(name, "p")
	percent, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(percent > 0 && percent < 100) {
		return 0, fmt.Errorf("%q is none of min, p50, p90, p99, p99.9, max", name)
	}
	return percent / 100, nil
}

// Check compares a round trip as measured with the threshold. Nothing measured does not meet it.
func (t Threshold) Check(h *Histogram) path.ThresholdResult {
	r := path.ThresholdResult{Threshold: t.Text, Limit: int64(t.Limit)}
	if h == nil || h.Count() == 0 {
		return r
	}
	switch t.Quantile {
	case 0:
		r.Measured = h.min
	case 1:
		r.Measured = h.max
	default:
		r.Measured = h.Quantile(t.Quantile)
	}
	r.Met = r.Measured <= r.Limit
	return r
}
