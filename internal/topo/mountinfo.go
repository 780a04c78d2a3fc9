package topo

import (
	"bufio"
	"io"
	"path"
	"strings"
)

// pin is a network namespace that is mounted on a path.
type pin struct {
	inode uint32
	path  string
}

// parseMountinfo finds the network namespaces in /proc/PID/mountinfo (Documentation/filesystems/
// proc.rst, section 3.5): lines whose root, the fourth field, is "net:[inode]", mounted on the
// fifth. Lines it does not understand are skipped.
func parseMountinfo(r io.Reader) ([]pin, error) {
	var pins []pin
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // overlay mounts have long options
	for lines.Scan() {
		line := lines.Text()
		if !strings.Contains(line, " net:[") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		inode, ok := parseNetNS(fields[3])
		if !ok {
			continue
		}
		pins = append(pins, pin{inode: inode, path: unescapeMount(fields[4])})
	}
	return pins, lines.Err()
}

// unescapeMount undoes the octal escapes of mangle_path (fs/seq_file.c): \040 is a space.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }

// pinName tells what a pin's path says about the namespace. `ip netns` pins in /run/netns, Docker in
// the netns directory of its exec-root: a sandbox under 12 hexadecimal digits, an overlay under "1-"
// and ten characters of the network ID, load balancers under "lb_", the ingress as ingress_sbox.
// "default" there is the engine's own namespace, which is no name.
func pinName(p string) (string, Kind) {
	dir, base := path.Split(insideMount(path.Clean(p)))
	dir = path.Clean(dir)
	switch {
	case dir == "/run/netns" || dir == "/var/run/netns":
		return base, KindNamed
	case path.Base(dir) != "netns" || base == "default":
		return "", KindOther
	case overlayPin(base):
		return base, KindHidden
	case base == "ingress_sbox" || strings.HasPrefix(base, "lb_"):
		return base, KindBalancer
	case sandboxPin(base):
		return base, KindContainer
	}
	return base, KindOther
}

// insideMount removes a leading /proc/PID/root.
func insideMount(p string) string {
	before, after, ok := strings.Cut(p, "/root/")
	if pid := path.Base(before); ok && before != "" && strings.Trim(pid, "0123456789") == "" {
		return "/" + after
	}
	return p
}

// overlayPin matches the pin of an overlay network: a generation, a dash, ten characters of its ID.
func overlayPin(s string) bool {
	generation, id, ok := strings.Cut(s, "-")
	return ok && generation != "" && strings.Trim(generation, "0123456789") == "" && len(id) == 10
}

// sandboxPin matches the pin of a container: the first 12 digits of the sandbox ID.
func sandboxPin(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789abcdef") == ""
}
