//go:build e2e

package docker

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestManyContainers measures the first reading of an engine with 20 containers.
func TestManyContainers(t *testing.T) {
	real := startEngine(t)
	for i := range 20 {
		real.docker("run", "-d", "--name", fmt.Sprintf("box%d", i), "box", "sleep", "600")
	}
	best := time.Hour
	for range 5 {
		start := time.Now()
		engines, err := Connect(context.Background(), Options{Hosts: []string{real.socket}})
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
		if got := len(engines.Containers()); got != 20 {
			t.Errorf("got %d containers, want 20", got)
		}
		for _, c := range engines.Containers() {
			if c.NetNS == 0 {
				t.Errorf("%s has no namespace", c.Name)
			}
		}
		engines.Close()
	}
	t.Logf("read 20 containers in %v", best)
	if os.Getenv("CI") == "" && best > 100*time.Millisecond {
		t.Errorf("it took %v, want less than 100 ms", best)
	}
}
