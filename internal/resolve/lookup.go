package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Status is what came of a look-up.
type Status uint8

// The ends of a look-up. The zero value means that nothing was asked.
const (
	Unknown Status = iota
	// Found: the name has addresses.
	Found
	// NotFound: a server said that there is no such name, or that it has no address.
	NotFound
	// Refused: nobody listens at the server's address (an ICMP error came back).
	Refused
	// Unreachable: the namespace has no way to the server.
	Unreachable
	// Silent: no server answered in time.
	Silent
	// Failed: a server answered that it could not tell (SERVFAIL, REFUSED), or what nobody understands.
	Failed
)

// Answer is the result of a look-up.
type Answer struct {
	Status Status
	// Name is the full name that the answer is for, as it was asked.
	Name  string
	Addrs []netip.Addr
	// FromHosts is set if the hosts file had it; otherwise Server is who gave the answer, or the last
	// one that was asked.
	FromHosts bool
	Server    netip.AddrPort
	// Code is the server's own word for its answer, such as NXDOMAIN; empty if there was none.
	Code string
}

// Dialer opens a UDP socket to a server, in the namespace the look-up is for. It must not block.
type Dialer func(server netip.AddrPort) (net.Conn, error)

// maxMessage is the size of the answers that are taken. Nothing larger than the classic 512 bytes is
// asked for; some servers send more all the same.
const maxMessage = 4096

// Lookup resolves a name. Servers are asked in order for both kinds of addresses; each gets an equal
// part of the time that ctx leaves. A truncated answer counts with the addresses it has.
func Lookup(ctx context.Context, c Config, name string, dial Dialer) Answer {
	if addrs := c.Hosts[canonical(name)]; len(addrs) > 0 {
		return Answer{Status: Found, Name: name, Addrs: addrs, FromHosts: true}
	}
	out := Answer{Name: name}
	for i, server := range c.Servers {
		share := time.Duration(0)
		if deadline, ok := ctx.Deadline(); ok {
			share = time.Until(deadline) / time.Duration(len(c.Servers)-i)
		}
		out = askServer(ctx, c.candidates(name), server, share, dial)
		if out.Status == Found || out.Status == NotFound || ctx.Err() != nil {
			return out
		}
	}
	return out
}

// askServer asks one server for each of the names until one is found.
func askServer(ctx context.Context, names []string, server netip.AddrPort, limit time.Duration, dial Dialer) Answer {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	out := Answer{Server: server, Name: names[0]}
	conn, err := dial(server)
	if err != nil {
		out.Status = statusOf(err)
		return out
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) }) // a socket takes deadlines
	defer stop()
	for _, name := range names {
		out = ask(conn, name)
		if out.Server = server; out.Status != NotFound {
			return out
		}
	}
	return out
}

// ask sends both questions for a name and waits for the first answer that settles it: one may have what
// the other lacks.
func ask(conn net.Conn, name string) Answer {
	out := Answer{Name: name}
	types := map[uint16]dnsmessage.Type{1: dnsmessage.TypeA, 2: dnsmessage.TypeAAAA}
	for id, typ := range types {
		msg, err := question(id, name, typ)
		if err != nil { // no DNS name at all
			out.Status = NotFound
			return out
		}
		if _, err := conn.Write(msg); err != nil {
			out.Status = statusOf(err)
			return out
		}
	}
	buf := make([]byte, maxMessage)
	for len(types) > 0 {
		n, err := conn.Read(buf)
		if err != nil {
			out.Status = statusOf(err)
			return out
		}
		id, got, ok := parseAnswer(buf[:n], name)
		if _, asked := types[id]; !ok || !asked {
			continue // an answer to something else
		}
		delete(types, id)
		if out.merge(got); out.Status == Found || got.Code == "NXDOMAIN" {
			return out // what the other answer says adds nothing
		}
	}
	return out
}

// merge adds what the other kind of question gave: addresses count most, then that there are none.
func (a *Answer) merge(got Answer) {
	a.Addrs = append(a.Addrs, got.Addrs...)
	switch {
	case got.Status == Found || a.Status == Unknown, a.Status == Failed && got.Status == NotFound:
		a.Status, a.Code = got.Status, got.Code
	}
}

func question(id uint16, name string, typ dnsmessage.Type) ([]byte, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, fmt.Errorf("encode name %q: %w", name, err)
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(dnsmessage.Question{Name: n, Type: typ, Class: dnsmessage.ClassINET}); err != nil {
		return nil, fmt.Errorf("encode name %q: %w", name, err)
	}
	return b.Finish()
}

// parseAnswer reads a response to a question for name. ok is false if it is none.
func parseAnswer(msg []byte, name string) (id uint16, out Answer, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || !h.Response {
		return 0, Answer{}, false
	}
	q, err := p.Question()
	if err != nil || canonical(q.Name.String()) != canonical(name) || p.SkipAllQuestions() != nil {
		return 0, Answer{}, false
	}
	out = Answer{Code: codeName(h.RCode)}
	switch h.RCode {
	case dnsmessage.RCodeSuccess:
		out.Addrs = addresses(&p)
		if out.Status = NotFound; len(out.Addrs) > 0 {
			out.Status = Found
		}
	case dnsmessage.RCodeNameError:
		out.Status = NotFound
	default:
		out.Status = Failed
	}
	return h.ID, out, true
}

// addresses reads the address records, of whatever name: aliases come with the records they lead to.
func addresses(p *dnsmessage.Parser) []netip.Addr {
	var out []netip.Addr
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return out // the end, or what cannot be read
		}
		switch h.Type {
		case dnsmessage.TypeA:
			if r, err := p.AResource(); err == nil {
				out = append(out, netip.AddrFrom4(r.A))
				continue
			}
		case dnsmessage.TypeAAAA:
			if r, err := p.AAAAResource(); err == nil {
				out = append(out, netip.AddrFrom16(r.AAAA).Unmap())
				continue
			}
		}
		if p.SkipAnswer() != nil {
			return out
		}
	}
}

// codeName is a response code as RFC 1035 and every DNS tool write it.
func codeName(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeSuccess:
		return "NOERROR"
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeNameError:
		return "NXDOMAIN"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// statusOf says what an error of the socket means.
func statusOf(err error) Status {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Silent
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return Unreachable
	}
	return Failed
}
