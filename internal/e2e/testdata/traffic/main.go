// Command traffic makes and swallows the packets of the benchmarks.
//
//	traffic sink ADDR                       take UDP datagrams and TCP connections, until killed
//	traffic udp ADDR SIZE RATE COUNT        send COUNT datagrams of SIZE bytes, RATE per second
//	traffic tcp ADDR                        fill a connection, until killed
//	traffic connect ADDR RATE SECONDS       connect, ask a line, read the answer, close, again and again
//
// A RATE of 0 is as fast as possible, a COUNT of 0 until killed. sink writes a line when it listens,
// udp the number of datagrams that the kernel took, connect how many connections it tried, and how many
// were answered. SIGTERM ends it early.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "sink":
		return sink(args[1])
	case len(args) == 2 && args[0] == "tcp":
		return fill(args[1])
	case len(args) == 4 && args[0] == "connect":
		rate, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		seconds, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return connect(args[1], rate, time.Duration(seconds)*time.Second)
	case len(args) == 5 && args[0] == "udp":
		var numbers [3]int
		for i, text := range args[2:] {
			var err error
			if numbers[i], err = strconv.Atoi(text); err != nil {
				return err
			}
		}
		return flood(args[1], numbers[0], numbers[1], numbers[2])
	}
	return errors.New("usage: traffic sink ADDR | tcp ADDR | connect ADDR RATE SECONDS | udp ADDR SIZE RATE COUNT")
}

func sink(addr string) error {
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	// Best effort: more than the limit of the machine is not given.
	_ = pc.(*net.UDPConn).SetReadBuffer(4 << 20)
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 256<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			}()
		}
	}()
	fmt.Println("ready")
	return swallow(pc.(*net.UDPConn))
}

// swallow reads datagrams without Go's address handling, which costs more than the datagram.
func swallow(pc *net.UDPConn) error {
	raw, err := pc.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		for {
			_, readErr = syscall.Read(int(fd), buf)
			switch {
			case errors.Is(readErr, syscall.EAGAIN):
				return false
			case readErr != nil && !errors.Is(readErr, syscall.EINTR):
				return true
			}
		}
	})
	return errors.Join(err, readErr)
}

func fill(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 128<<10)
	for {
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
}

// flood sends datagrams in bursts of what is due.
func flood(addr string, size, rate, count int) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	sent, buf, start := 0, make([]byte, size), time.Now()
	for count == 0 || sent < count {
		due := 256
		if rate > 0 {
			due = int(time.Since(start).Seconds()*float64(rate)) - sent
		}
		if count > 0 {
			due = min(due, count-sent)
		}
		if due <= 0 {
			time.Sleep(200 * time.Microsecond)
			continue
		}
		n, err := burst(raw, buf, due)
		sent += n
		if err != nil {
			return err
		}
	}
	_, err = io.WriteString(os.Stdout, strconv.Itoa(sent)+"\n")
	return err
}

// burst sends n datagrams and returns how many the kernel took.
func burst(raw syscall.RawConn, buf []byte, n int) (sent int, err error) {
	waitErr := raw.Write(func(fd uintptr) bool {
		for sent < n {
			_, err = syscall.Write(int(fd), buf)
			switch {
			case err == nil:
				sent++
			case errors.Is(err, syscall.EAGAIN):
				err = nil
				return false
			case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINTR):
				err = nil // a full queue, or a rule: not the sender's business
				return true
			case errors.Is(err, syscall.ECONNREFUSED):
				err = nil // an ICMP error for an earlier one
			default:
				return true
			}
		}
		return true
	})
	return sent, errors.Join(waitErr, err)
}
