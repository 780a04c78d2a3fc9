package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// Server answers inside a namespace until it or the lab is closed.
type Server struct {
	// Addr is the address that the server listens on.
	Addr netip.AddrPort

	listener io.Closer
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// TCPServer listens on address, such as "10.77.0.2:80" or ":80", and gives each connection to handle
// on a goroutine; it is closed when handle returns. A nil handle means AnswerHTTP.
func (ns *Namespace) TCPServer(address string, handle func(net.Conn)) (*Server, error) {
	ln, err := ns.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start TCP server in namespace %s: %w", ns.Name, err)
	}
	if handle == nil {
		handle = AnswerHTTP
	}
	s := &Server{Addr: ln.Addr().(*net.TCPAddr).AddrPort(), listener: ln, conns: make(map[net.Conn]struct{})}
	s.wg.Go(func() { s.accept(ln, handle) })
	return s, ns.lab.own(s)
}

// UDPEcho listens on address and sends every datagram back.
func (ns *Namespace) UDPEcho(address string) (*Server, error) {
	pc, err := ns.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, fmt.Errorf("start UDP server in namespace %s: %w", ns.Name, err)
	}
	s := &Server{Addr: pc.LocalAddr().(*net.UDPAddr).AddrPort(), listener: pc}
	s.wg.Go(func() { echo(pc) })
	return s, ns.lab.own(s)
}

// Close stops the server, resets the connections that are still open and waits for their handlers.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	err := s.listener.Close()
	for c := range s.conns {
		// Without lingering: data that cannot be delivered any more would keep the namespace alive.
		if t, ok := c.(*net.TCPConn); ok {
			err = errors.Join(err, t.SetLinger(0))
		}
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

func (s *Server) accept(ln net.Listener, handle func(net.Conn)) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !s.add(c) {
			continue
		}
		s.wg.Go(func() {
			handle(c)
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			c.Close()
		})
	}
}

// add registers a connection; after Close it closes it and returns false.
func (s *Server) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// AnswerHTTP reads a request up to its empty line and answers "hello" in HTTP/1.0. A connection that
// is closed without a request gets no answer.
func AnswerHTTP(c net.Conn) {
	r := bufio.NewReader(io.LimitReader(c, 64<<10))
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" || line == "\n" {
			break
		}
	}
	// The other side may be gone; there is nobody to tell.
	_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n")
}

func echo(pc net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			// A lost answer is what UDP promises.
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}
}
