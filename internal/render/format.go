package render

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// offset formats a time since the flow's first observation, always to the microsecond: steps of a
// packet that was sent after seconds are still microseconds apart.
func offset(ns int64) string {
	us := time.Duration(ns).Round(time.Microsecond).Microseconds()
	switch {
	case us < 0:
		return strconv.FormatInt(us, 10) + " µs"
	case us < 1e3:
		return "+" + strconv.FormatInt(us, 10) + " µs"
	case us < 1e6:
		return fmt.Sprintf("+%.3f ms", float64(us)/1e3)
	}
	return fmt.Sprintf("+%.6f s", float64(us)/1e6)
}

// ordinal returns "2nd" for 2.
func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}

// endpoint formats an address, with its port if it has one.
func endpoint(a netip.AddrPort) string {
	switch {
	case !a.Addr().IsValid():
		return ""
	case a.Port() == 0:
		return a.Addr().String()
	}
	return a.String()
}

// hostOf returns the address of "addr:port" without the port and brackets.
func hostOf(s string) string {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.Addr().String()
	}
	return strings.Trim(s, "[]")
}
