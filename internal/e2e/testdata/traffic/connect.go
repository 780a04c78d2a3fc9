package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// workers is how many connections are made at the same time at most.
const workers = 16

// connect makes connections for a time, and says how many it tried and how many were answered.
func connect(addr string, rate int, limit time.Duration) error {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	stop, due := make(chan struct{}), make(chan struct{}, workers)
	go func() {
		select {
		case <-end:
		case <-time.After(limit):
		}
		close(stop)
	}()
	go pace(due, stop, rate)
	var tried, answered atomic.Uint64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range due {
				tried.Add(1)
				if ask(addr) {
					answered.Add(1)
				}
			}
		})
	}
	all.Wait()
	_, err := fmt.Println(tried.Load(), answered.Load())
	return err
}

// pace says when a connection is due, until stop.
func pace(due chan<- struct{}, stop <-chan struct{}, rate int) {
	defer close(due)
	start := time.Now()
	for n := 0; ; n++ {
		if rate > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		}
		select {
		case <-stop:
			return
		case due <- struct{}{}:
		}
	}
}

// ask makes one connection and reports whether it was answered.
func ask(addr string) bool {
	const patience = 5 * time.Second
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return false
	}
	if _, err := c.Write([]byte("hello\n")); err != nil {
		return false
	}
	_, err = bufio.NewReader(c).ReadString('\n')
	return err == nil
}
