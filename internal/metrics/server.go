package metrics

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server answers scrapes of /metrics until it is closed.
type Server struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{}
}

// Listen opens the address, such as ":9435" or "127.0.0.1:9435", and answers from source.
func Listen(address string, source Source) (*Server, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("offer metrics: %w", err)
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(newCollector(source)); err != nil {
		ln.Close()
		return nil, fmt.Errorf("offer metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	s := &Server{
		listener: ln, done: make(chan struct{}),
		server: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second},
	}
	go func() {
		defer close(s.done)
		// It ends with Close only; there is nobody to tell of anything else.
		_ = s.server.Serve(ln)
	}()
	return s, nil
}

// Addr is the address that is listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close ends all answers.
func (s *Server) Close() error {
	err := s.server.Close()
	<-s.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
