package remote

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Address says how a host is reached.
type Address struct {
	// User and Port are empty if ssh's configuration decides.
	User, Host, Port string
}

// ParseAddress reads ssh://[USER@]HOST[:PORT].
func ParseAddress(text string) (Address, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "ssh" || u.Hostname() == "" {
		return Address{}, fmt.Errorf("--host %q is not understood: write ssh://USER@HOST or ssh://USER@HOST:PORT", text)
	}
	a := Address{Host: u.Hostname(), Port: u.Port()}
	if u.User != nil {
		a.User = u.User.Username()
		if _, ok := u.User.Password(); ok {
			return Address{}, fmt.Errorf("--host takes no password: give user %s a key on %s (ssh-copy-id)", a.User, a.Host)
		}
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return Address{}, fmt.Errorf("--host %q names more than a host: write ssh://%s", text, a.authority())
	}
	if strings.HasPrefix(a.Host, "-") || strings.HasPrefix(a.User, "-") {
		return Address{}, fmt.Errorf("--host %q is no host: a name cannot begin with a hyphen", text)
	}
	return a, nil
}

func (a Address) authority() string {
	s := a.Host
	if a.Port != "" {
		s = net.JoinHostPort(a.Host, a.Port)
	}
	if a.User != "" {
		s = a.User + "@" + s
	}
	return s
}

// Name is what the host is called if it has no better name.
func (a Address) Name() string {
	if a.Port != "" {
		return net.JoinHostPort(a.Host, a.Port)
	}
	return a.Host
}

// String returns the address as it was written.
func (a Address) String() string { return "ssh://" + a.authority() }

// Command is the command line that logs in there.
func (a Address) Command() string {
	return strings.Join(append([]string{"ssh"}, a.arguments()...), " ")
}

// arguments are those of ssh that name the host.
func (a Address) arguments() []string {
	var out []string
	if a.Port != "" {
		out = append(out, "-p", a.Port)
	}
	if a.User != "" {
		return append(out, a.User+"@"+a.Host)
	}
	return append(out, a.Host)
}
