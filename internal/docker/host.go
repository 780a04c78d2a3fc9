package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/docker/docker/client"
)

// HostError is an engine address that cannot be used at all.
type HostError struct{ Host, Reason string }

// Error returns the sentence.
func (e *HostError) Error() string {
	return fmt.Sprintf("docker host %q: %s", e.Host, e.Reason)
}

// hostAddress is a parsed engine address.
type hostAddress struct {
	// host is the address in URL form; network and dial are what to connect to.
	host, network, dial string
}

// label is how the address is called in sentences: a path for a socket, else the URL.
func (h hostAddress) label() string {
	if h.network == "unix" {
		return h.dial
	}
	return h.host
}

// hostList returns the addresses to ask: those given, else DOCKER_HOST, else the usual socket.
// Repeated ones are asked once.
func hostList(given []string, getenv func(string) string) ([]hostAddress, error) {
	if len(given) == 0 {
		given = []string{getenv(client.EnvOverrideHost)}
		if given[0] == "" {
			given[0] = client.DefaultDockerHost
		}
	}
	var out []hostAddress
	seen := map[string]bool{}
	for _, text := range given {
		h, err := parseHost(text)
		if err != nil {
			return nil, err
		}
		if !seen[h.host] {
			seen[h.host] = true
			out = append(out, h)
		}
	}
	return out, nil
}

// parseHost accepts unix://PATH, a bare path, and tcp://, http:// and https:// addresses of this
// machine: the containers of another one are not on this kernel.
func parseHost(text string) (hostAddress, error) {
	host := text
	if strings.HasPrefix(host, "/") {
		host = "unix://" + host
	}
	scheme, rest, ok := strings.Cut(host, "://")
	if !ok || rest == "" {
		return hostAddress{}, &HostError{text, "it must be an address such as unix:///var/run/docker.sock"}
	}
	switch scheme {
	case "unix":
		if !strings.HasPrefix(rest, "/") {
			return hostAddress{}, &HostError{text, "the path of a socket must be absolute"}
		}
		return hostAddress{host: host, network: "unix", dial: rest}, nil
	case "tcp", "http", "https":
		u, err := client.ParseHostURL(host)
		if err != nil {
			return hostAddress{}, &HostError{text, err.Error()}
		}
		return hostAddress{host: host, network: "tcp", dial: u.Host}, nil
	}
	return hostAddress{}, &HostError{text, "only unix:// and tcp:// addresses of this machine can be used"}
}

// local tells whether a connection leads to this machine.
func local(conn net.Conn) bool {
	if conn.RemoteAddr().Network() != "tcp" {
		return true
	}
	remote, err1 := netip.ParseAddrPort(conn.RemoteAddr().String())
	own, err2 := netip.ParseAddrPort(conn.LocalAddr().String())
	// The kernel uses the same address on both ends for its own.
	return err1 == nil && err2 == nil && (remote.Addr().IsLoopback() || remote.Addr() == own.Addr())
}

// errElsewhere is an engine on another machine.
var errElsewhere = errors.New("the engine is on another machine")

// IsElsewhere reports whether an engine could not be used because it is on another machine.
func IsElsewhere(err error) bool { return errors.Is(err, errElsewhere) }

// Explain makes the sentence for an engine, by its address, that could not be used because of err.
func Explain(host string, err error) string {
	h, parseErr := parseHost(host)
	if parseErr != nil {
		return parseErr.Error()
	}
	return explainWhy(h, err)
}

// explain makes the sentence for an engine that could not be used, with what is done instead.
func explain(h hostAddress, err error) string {
	if errors.Is(err, errElsewhere) {
		return explainWhy(h, err)
	}
	return explainWhy(h, err) + "; names come from network namespaces until it answers"
}

func explainWhy(h hostAddress, err error) string {
	switch {
	case errors.Is(err, errElsewhere):
		return fmt.Sprintf("the Docker engine at %s is on another machine: only containers on this kernel can be traced, run pathtrace there", h.label())
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("no Docker engine at %s: start it or give its address with --docker-host", h.label())
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("no permission to use the Docker engine at %s: be root or a member of the group docker", h.label())
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("the Docker engine at %s is not running: start dockerd", h.label())
	case isTimeout(err):
		return fmt.Sprintf("the Docker engine at %s does not answer: look at its log", h.label())
	}
	return fmt.Sprintf("the Docker engine at %s cannot be used: %v", h.label(), err)
}

// explainLost makes the sentence for an engine that went away.
func explainLost(h hostAddress) string {
	return fmt.Sprintf("the connection to the Docker engine at %s was lost: known containers keep their names, new ones get theirs when it is back", h.label())
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
