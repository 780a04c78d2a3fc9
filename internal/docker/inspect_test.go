package docker

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/client"
)

// TestManyRequests: an engine with hundreds of containers is asked once for each, over few connections.
func TestManyRequests(t *testing.T) {
	const count = 300
	f := newFakeEngine(t)
	for i := range count {
		f.containers[fmt.Sprintf("%064x", i)] = fmt.Sprintf("box%d", i)
	}
	f.start()
	e := f.connect()
	if got := len(e.Containers()); got != count+2 {
		t.Errorf("got %d containers, want %d", got, count+2)
	}
	// Beside the inspections: two pings, the lists of containers and networks, the events.
	if n := f.requests.Load(); n > count+2+5 {
		t.Errorf("%d requests for %d containers", n, count+2)
	}
	// One that finds out which process listens, and those of the client of docker/docker.
	if n := f.connections.Load(); n > parallel+5 {
		t.Errorf("%d connections, want %d at once and few others", n, parallel)
	}
}

// TestAskerErrors: what an engine refuses is said in its own words.
func TestAskerErrors(t *testing.T) {
	var gone atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case gone.Load():
			w.WriteHeader(http.StatusNotFound)
		case strings.HasSuffix(r.URL.Path, "/containers/json"):
			fmt.Fprint(w, `[{"Id":"a"`)
		default:
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"message":"layer not found"}`)
		}
	}))
	defer server.Close()
	cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	a := newAsker(cli)
	defer a.close()
	if _, err := a.list(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "list containers: ") {
		t.Errorf("half a list: got %v", err)
	}
	_, err = a.inspect(t.Context(), 0, []string{"0123456789abcdef"})
	if want := "inspect container 0123456789ab: the engine said: 500 Internal Server Error: layer not found"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	gone.Store(true)
	if got, err := a.inspect(t.Context(), 0, []string{"a"}); err != nil || len(got) != 1 || got[0] != nil {
		t.Errorf("one that vanished: got %v %v, want nil", got, err)
	}
}
