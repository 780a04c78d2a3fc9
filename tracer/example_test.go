package tracer_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
)

// Trace one connection from this host to a port of its own.
func Example() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Print(err)
		return
	}
	defer listener.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t, err := tracer.New(ctx, tracer.Config{
		Source:   "host",                   // or a container, or a namespace
		Target:   listener.Addr().String(), // or NAME:PORT
		NoDocker: true,                     // names come from namespaces only
		OnFlow: func(f tracer.Flow) {
			for _, packet := range f.Path.Packets {
				for _, hop := range packet.Hops {
					log.Println(packet.Direction, packet.TCPFlags, hop.Namespace, hop.Device, hop.Stage, hop.Action)
				}
			}
			fmt.Println(f.Verdict.Outcome, f.Verdict.Cause)
		},
	})
	if err != nil {
		log.Print(err) // errors.Is tells an fs.ErrPermission from a tracer.ErrUnknownName
		return
	}
	if _, err := t.Run(ctx); err != nil {
		log.Print(err)
	}
	// Prints: delivered
}

// TestExample runs the example, which needs root.
func TestExample(t *testing.T) {
	labtest.NeedsRoot(t)
	stdout := os.Stdout
	r, w, err := os.Pipe()
	labtest.Must(t, err)
	os.Stdout = w
	Example()
	os.Stdout = stdout
	labtest.Must(t, w.Close())
	text, err := io.ReadAll(r)
	labtest.Must(t, err)
	if got, want := strings.TrimSpace(string(text)), "delivered"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
