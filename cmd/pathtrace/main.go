package main

import (
	"context"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the linker.
var version = "devel"

// How much the heap may grow between two collections, in per cent of what is in use. Reading the
// kernel's types and the programs leaves little of what it allocates: collecting after every few megabytes
// took as much processor time as reading the types. So a start collects when all memory of Go nears
// startMemory (bytes), and while traffic is watched memory matters more.
const (
	garbageStarting = 400
	garbageRunning  = 50
	startMemory     = 32 << 20
)

func main() {
	debug.SetGCPercent(garbageStarting)
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// starting bounds the memory of a start.
func starting() { debug.SetMemoryLimit(startMemory) }

// loaded gives back what loading the programs took, of which hardly anything is in use any more.
func loaded() {
	started()
	debug.FreeOSMemory()
}

// started lifts the limit of the start.
func started() { debug.SetMemoryLimit(math.MaxInt64) }

// rest gives back what the start took, which takes some milliseconds, and keeps memory low from then on.
func rest() {
	debug.SetGCPercent(garbageRunning)
	debug.FreeOSMemory()
}
