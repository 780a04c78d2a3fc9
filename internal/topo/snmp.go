package topo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Counters returns the protocol counters of a namespace under the names that nstat prints, such as
// TcpExtListenOverflows, IpExtInNoRoutes, UdpRcvbufErrors, Ip6InNoRoutes, those of IPsec under their own,
// such as XfrmInNoStates, and those of connection tracking as `conntrack -S` names them, such as nf_conntrack_insert_failed.
func (t *Topology) Counters(netns uint32) (map[string]uint64, error) {
	out := map[string]uint64{}
	err := t.InNamespace(netns, func() error {
		for _, name := range []string{"snmp", "netstat"} {
			if err := t.readNet(name, func(r io.Reader) error { return parseSNMP(r, out) }); err != nil {
				return err
			}
		}
		for name, parse := range map[string]func(io.Reader, map[string]uint64) error{
			"snmp6": parseSNMP6, "xfrm_stat": parseSNMP6, "stat/nf_conntrack": parseConntrackStat,
		} {
			err := t.readNet(name, func(r io.Reader) error { return parse(r, out) })
			if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6 or IPsec, or without this
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read protocol counters: %w", err)
	}
	return out, nil
}

// readNet gives parse a file of the network namespace the calling thread is in.
func (t *Topology) readNet(name string, parse func(io.Reader) error) error {
	f, err := os.Open(filepath.Join(t.procfs, "thread-self/net", name))
	if err != nil {
		return err
	}
	defer f.Close()
	return parse(f)
}

// parseSNMP reads the pairs of lines of /proc/net/snmp and /proc/net/netstat: "Tcp: names" and then
// "Tcp: values". Values below zero (a limit that is off) are left out.
func parseSNMP(r io.Reader, out map[string]uint64) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		prefix, names, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			return fmt.Errorf("decode counters: line %q has no name", lines.Text())
		}
		if !lines.Scan() {
			return errors.Join(fmt.Errorf("decode counters: no values for %s", prefix), lines.Err())
		}
		valuePrefix, values, ok := strings.Cut(lines.Text(), ":")
		keys, fields := strings.Fields(names), strings.Fields(values)
		if !ok || valuePrefix != prefix || len(keys) != len(fields) {
			return fmt.Errorf("decode counters: names and values of %s do not match", prefix)
		}
		for i, key := range keys {
			if v, err := strconv.ParseUint(fields[i], 10, 64); err == nil {
				out[prefix+key] = v
			}
		}
	}
	return lines.Err()
}

// parseSNMP6 reads the "name value" lines of /proc/net/snmp6 and /proc/net/xfrm_stat.
func parseSNMP6(r io.Reader, out map[string]uint64) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 2 {
			continue
		}
		if v, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
			out[fields[0]] = v
		}
	}
	return lines.Err()
}

// parseConntrackStat sums /proc/net/stat/nf_conntrack: a line of names, then one of hexadecimal values
// for each processor. The first column is the number of entries, the same on each line.
func parseConntrackStat(r io.Reader, out map[string]uint64) error {
	lines := bufio.NewScanner(r)
	lines.Scan()
	names := strings.Fields(lines.Text())
	for lines.Scan() {
		values := strings.Fields(lines.Text())
		if len(values) != len(names) {
			return fmt.Errorf("decode connection tracking counters: %d values for %d names", len(values), len(names))
		}
		for i, text := range values[min(1, len(values)):] {
			n, err := strconv.ParseUint(text, 16, 64)
			if err != nil {
				return fmt.Errorf("decode connection tracking counters: %w", err)
			}
			out["nf_conntrack_"+names[i+1]] += n
		}
	}
	return lines.Err()
}
