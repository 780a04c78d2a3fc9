package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// fakeEngine answers the few requests that are made, on a unix socket.
type fakeEngine struct {
	t      *testing.T
	socket string
	podman bool // answers as Podman does
	server *httptest.Server

	mu         sync.Mutex
	containers map[string]string // ID to name
	streams    []chan string

	requests, connections atomic.Int64
}

func newFakeEngine(t *testing.T) *fakeEngine {
	t.Helper()
	dir, err := os.MkdirTemp("", "pt") // short: socket paths have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeEngine{t: t, socket: filepath.Join(dir, "s"), containers: map[string]string{"aaaa": "web", "bbbb": "db"}}
	t.Cleanup(func() {
		f.stop()
		os.RemoveAll(dir)
	})
	return f
}

func (f *fakeEngine) start() {
	f.t.Helper()
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if f.podman {
			w.Header().Set("Libpod-Api-Version", "4.3.1")
		}
	})
	mux.HandleFunc("/v4.0.0/libpod/networks/json", answer([]map[string]string{
		{"id": "n1", "name": "pnet", "network_interface": "cni-podman1"}}))
	mux.HandleFunc("/v1.41/version", answer(map[string]string{"Version": "20.10.24"}))
	mux.HandleFunc("/v1.41/networks", answer([]map[string]string{{"Id": "n1", "Name": "app", "Driver": "bridge"}}))
	mux.HandleFunc("/v1.41/containers/json", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		list := []map[string]string{}
		for id := range f.containers {
			list = append(list, map[string]string{"Id": id})
		}
		json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("/v1.41/containers/{id}/json", f.inspect)
	mux.HandleFunc("/v1.41/events", f.events)
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		mux.ServeHTTP(w, r)
	}))
	f.server.Listener = listener
	f.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			f.connections.Add(1)
		}
	}
	f.server.Start()
}

func answer(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { json.NewEncoder(w).Encode(v) }
}

func (f *fakeEngine) inspect(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name, ok := f.containers[r.PathValue("id")]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	fmt.Fprintf(w, `{"Id":%q,"Name":"/%s","State":{"Status":"running","Pid":%d},"HostConfig":{"NetworkMode":"app"}}`,
		r.PathValue("id"), name, os.Getpid())
}

func (f *fakeEngine) events(w http.ResponseWriter, r *http.Request) {
	stream := make(chan string, 16)
	f.mu.Lock()
	f.streams = append(f.streams, stream)
	f.mu.Unlock()
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case line, ok := <-stream:
			if !ok {
				return
			}
			fmt.Fprintln(w, line)
			w.(http.Flusher).Flush()
		}
	}
}

// set changes a container (an empty name removes it) and says so.
func (f *fakeEngine) set(id, name, action string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers[id] = name
	if name == "" {
		delete(f.containers, id)
	}
	for _, s := range f.streams {
		s <- fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":%q}}`, action, id)
	}
}

func (f *fakeEngine) stop() {
	if f.server == nil {
		return
	}
	f.mu.Lock()
	for _, s := range f.streams {
		close(s)
	}
	f.streams = nil
	f.mu.Unlock()
	f.server.CloseClientConnections()
	f.server.Close()
	f.server = nil
}

func (f *fakeEngine) connect() *Engines {
	f.t.Helper()
	e, err := Connect(context.Background(), Options{Hosts: []string{f.socket}, RetryAfter: time.Millisecond})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { e.Close() })
	return e
}

func names(e *Engines) string {
	var out []string
	for _, c := range e.Containers() {
		out = append(out, c.Name)
	}
	return strings.Join(out, " ")
}

func TestFollow(t *testing.T) {
	f := newFakeEngine(t)
	f.start()
	e := f.connect()
	if got := names(e); got != "db web" || len(e.Problems()) != 0 {
		t.Fatalf("got %q, problems %q", got, e.Problems())
	}
	info := e.Described(t.Context())[0]
	if !info.Alive || info.Version != "20.10.24" || info.APIVersion != "1.41" || info.PID != os.Getpid() || info.NetNS == 0 {
		t.Errorf("engine: got %+v", info)
	}
	if c, ok := e.ByNetNS(info.NetNS); !ok || c.NetNS != info.NetNS {
		t.Errorf("by namespace: got %+v", c)
	}
	changed := make(chan struct{}, 100)
	cancel := e.OnChange(func() { changed <- struct{}{} })
	f.set("cccc", "cache", "start")
	<-changed
	labtest.Eventually(t, "a new container", func() bool { return names(e) == "cache db web" })
	f.set("aaaa", "web2", "rename")
	labtest.Eventually(t, "a new name", func() bool { return names(e) == "cache db web2" })
	f.set("bbbb", "", "destroy")
	labtest.Eventually(t, "one less", func() bool { return names(e) == "cache web2" })
	f.set("aaaa", "unseen", "exec_start: sh")
	f.set("cccc", "seen", "unpause")
	labtest.Eventually(t, "only events that matter count", func() bool { return names(e) == "seen web2" })
	cancel()
	e.Close()
	e.Close()
}

func TestReconnect(t *testing.T) {
	f := newFakeEngine(t)
	e := f.connect()
	if p := e.Problems(); len(p) != 1 || !strings.HasPrefix(p[0], "no Docker engine at "+f.socket) {
		t.Fatalf("problems: got %q", p)
	}
	f.start()
	labtest.Eventually(t, "the engine appears", func() bool { return names(e) == "db web" && e.List()[0].Alive })
	for range 2 {
		f.stop()
		labtest.Eventually(t, "the engine is lost", func() bool { return !e.List()[0].Alive })
		if got := names(e); !strings.HasSuffix(got, "web") {
			t.Errorf("while lost: got %q", got)
		}
		f.mu.Lock()
		delete(f.containers, "bbbb")
		f.mu.Unlock()
		f.start()
		labtest.Eventually(t, "the engine is back", func() bool { return e.List()[0].Alive && names(e) == "web" })
	}
	if p := e.Problems(); len(p) != 2 || !strings.Contains(p[1], "was lost") {
		t.Errorf("problems: got %q, want two", p)
	}
}

func TestSilentEngine(t *testing.T) {
	f := newFakeEngine(t)
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	e, err := Connect(ctx, Options{Hosts: []string{f.socket}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if p := e.Problems(); len(p) != 1 || !strings.Contains(p[0], "does not answer") {
		t.Errorf("problems: got %q", p)
	}
}

func TestStaleSocket(t *testing.T) {
	f := newFakeEngine(t)
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	if p := f.connect().Problems(); len(p) != 1 || !strings.Contains(p[0], "is not running") {
		t.Errorf("problems: got %q", p)
	}
}

func TestExplain(t *testing.T) {
	h := hostAddress{host: "unix:///run/d.sock", network: "unix", dial: "/run/d.sock"}
	tests := []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}, "no permission to use the Docker engine at /run/d.sock: be root"},
		{fmt.Errorf("x: %w", fs.ErrNotExist), "no Docker engine at /run/d.sock"},
		{syscall.ECONNREFUSED, "is not running"},
		{context.DeadlineExceeded, "does not answer"},
		{errElsewhere, "another machine"},
		{errors.New("odd"), "cannot be used: odd"},
	}
	for _, tt := range tests {
		if got := explain(h, tt.err); !strings.Contains(got, tt.want) {
			t.Errorf("%v: got %q, want %q in it", tt.err, got, tt.want)
		}
	}
}

func TestHostList(t *testing.T) {
	env := func(value string) func(string) string {
		return func(name string) string {
			if name == "DOCKER_HOST" {
				return value
			}
			return ""
		}
	}
	tests := []struct {
		given []string
		env   string
		want  []string
		bad   bool
	}{
		{nil, "", []string{"unix:///var/run/docker.sock"}, false},
		{nil, "unix:///run/x", []string{"unix:///run/x"}, false},
		{[]string{"/run/y", "unix:///run/y", "tcp://127.0.0.1:2375"}, "unix:///run/x", []string{"unix:///run/y", "tcp://127.0.0.1:2375"}, false},
		{[]string{"ssh://root@host"}, "", nil, true},
		{[]string{"unix://relative"}, "", nil, true},
		{[]string{"nonsense"}, "", nil, true},
		{[]string{"unix://"}, "", nil, true},
	}
	for _, tt := range tests {
		list, err := hostList(tt.given, env(tt.env))
		var got []string
		for _, h := range list {
			got = append(got, h.host)
		}
		var hostErr *HostError
		if !slices.Equal(got, tt.want) || errors.As(err, &hostErr) != tt.bad {
			t.Errorf("%v %q: got %v %v, want %v", tt.given, tt.env, got, err, tt.want)
		}
	}
}
