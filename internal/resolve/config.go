package resolve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxServers is how many servers the C libraries ask (MAXNS of resolv.h).
	maxServers = 3
	// maxSearch bounds the domains that are tried; glibc had the limit of 6 for decades.
	maxSearch = 6
	// maxFile bounds what is read of a file, which belongs to somebody else.
	maxFile = 1 << 20
)

// Config is what decides how a name is looked up (resolv.conf(5), hosts(5)).
type Config struct {
	// Servers are asked one after the other, at most three; 127.0.0.1 if the file names none.
	Servers []netip.AddrPort
	// Search are the domains that are appended to a name with fewer than Ndots dots.
	Search []string
	// Ndots is 1 unless the file says otherwise.
	Ndots int
	// Hosts are the addresses that the hosts file gives to each name, in lower case.
	Hosts map[string][]netip.Addr
}

// ReadConfig reads /etc/resolv.conf and /etc/hosts below a root directory, such as /proc/PID/root. A
// file that is not there counts as empty. Links are not followed out of the root.
func ReadConfig(root string) (Config, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return Config{}, fmt.Errorf("read name resolution: %w", err)
	}
	defer dir.Close()
	var c Config
	for name, parse := range map[string]func(io.Reader) error{
		"etc/resolv.conf": c.parseResolv, "etc/hosts": c.parseHosts,
	} {
		f, err := dir.Open(filepath.FromSlash(name))
		if errors.Is(err, fs.ErrNotExist) {
			err = parse(strings.NewReader(""))
		} else if err == nil {
			err = parse(io.LimitReader(f, maxFile))
			f.Close()
		}
		if err != nil {
			return Config{}, fmt.Errorf("read name resolution: %s: %w", name, err)
		}
	}
	return c, nil
}

// parseResolv reads resolv.conf; what it does not know it skips, as the C libraries do.
func (c *Config) parseResolv(r io.Reader) error {
	c.Servers, c.Search, c.Ndots = nil, nil, 1
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if strings.HasPrefix(text, ";") {
			continue
		}
		f := strings.Fields(text)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if addr, err := netip.ParseAddr(f[1]); err == nil && len(c.Servers) < maxServers {
				c.Servers = append(c.Servers, netip.AddrPortFrom(addr, 53))
			}
		case "search", "domain": // the last one counts
			c.Search = slices.Clone(f[1:min(len(f), 1+maxSearch)])
		case "options":
			c.options(f[1:])
		}
	}
	if len(c.Servers) == 0 {
		c.Servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	}
	return lines.Err()
}

func (c *Config) options(list []string) {
	const maxNdots = 15 // RES_MAXNDOTS
	for _, option := range list {
		if value, ok := strings.CutPrefix(option, "ndots:"); ok {
			if n, err := strconv.Atoi(value); err == nil && n >= 0 {
				c.Ndots = min(n, maxNdots)
			}
		}
	}
}

// parseHosts reads a hosts file.
func (c *Config) parseHosts(r io.Reader) error {
	c.Hosts = map[string][]netip.Addr{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(text)
		if len(f) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		for _, name := range f[1:] {
			name = canonical(name)
			c.Hosts[name] = append(c.Hosts[name], addr.Unmap())
		}
	}
	return lines.Err()
}

// canonical is a name as it is compared: in lower case, without the dot at the end.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// candidates lists the full names that are asked for, in order (res_search of the C library): a name
// with enough dots as it is first, another one with the search list first.
func (c *Config) candidates(name string) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	asIs := name + "."
	var out []string
	if strings.Count(name, ".") >= c.Ndots {
		out = append(out, asIs)
	}
	for _, domain := range c.Search {
		if domain = strings.Trim(domain, "."); domain != "" {
			out = append(out, name+"."+domain+".")
		}
	}
	if !slices.Contains(out, asIs) {
		out = append(out, asIs)
	}
	return out
}
