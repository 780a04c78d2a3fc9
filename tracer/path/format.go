package path

import (
	"strconv"
	"time"
)

// FormatDuration formats a measured time in nanoseconds for people: whole microseconds below a
// millisecond, else three significant digits ("41 µs", "1.20 ms", "2.03 s").
func FormatDuration(ns int64) string {
	if ns < 0 {
		return "-" + FormatDuration(-ns)
	}
	us := time.Duration(ns).Round(time.Microsecond)
	switch {
	case ns == 0 || us > 0 && us < time.Millisecond:
		return strconv.FormatInt(us.Microseconds(), 10) + " µs"
	case us == 0:
		return strconv.FormatFloat(float64(ns)/1e3, 'f', 1, 64) + " µs"
	case us < 999500*time.Microsecond:
		return significant(float64(ns)/1e6) + " ms"
	}
	return significant(float64(ns)/1e9) + " s"
}

// significant formats f >= 0 with three significant digits, more before the point if needed.
func significant(f float64) string {
	digits := 2
	switch {
	case f >= 99.95:
		digits = 0
	case f >= 9.995:
		digits = 1
	}
	return strconv.FormatFloat(f, 'f', digits, 64)
}

// FormatCount formats a number with its noun for people: "1 packet", "12,345 packets".
func FormatCount[T int | uint64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return FormatNumber(uint64(n)) + " " + noun + "s"
}

// FormatNumber groups the digits of a number: "12,345".
func FormatNumber(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
