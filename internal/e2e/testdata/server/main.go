// Command ptserver is the only program of the tests' image: servers and clients without surprises.
//
//	ptserver tcp ADDR      answer every connection with one line
//	ptserver kept ADDR     answer every HTTP request of a connection
//	ptserver udp ADDR      send every datagram back
//	ptserver mute ADDR     take datagrams and say nothing
//	ptserver stall ADDR    take datagrams until the receive buffer, a small one, is full
//	ptserver deaf ADDR     listen with a backlog of 1 and accept nothing
//	ptserver idle          do nothing
//	ptserver get ADDR N    open N connections at once and read an answer on each
//	ptserver talk ADDR N   ask N times a second, over one connection
//	ptserver ask ADDR      send a datagram and wait for the answer
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// patience bounds everything a client waits for.
const patience = 10 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ptserver:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == "idle" {
		time.Sleep(24 * time.Hour)
		return nil
	}
	if len(args) < 2 {
		return errors.New("usage: ptserver tcp|kept|udp|mute|stall|deaf|get|talk|ask ADDR [N]")
	}
	switch args[0] {
	case "tcp":
		return serveTCP(args[1], answer)
	case "kept":
		return serveTCP(args[1], answerAll)
	case "udp", "mute":
		return serveUDP(args[1], args[0] == "udp")
	case "stall":
		return stall(args[1])
	case "deaf":
		return deaf(args[1])
	case "ask":
		return ask(args[1])
	case "talk":
		return talk(args[1], args[len(args)-1])
	case "get":
		n := 1
		if len(args) > 2 {
			var err error
			if n, err = strconv.Atoi(args[2]); err != nil {
				return err
			}
		}
		return getAll(args[1], n)
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func serveTCP(addr string, answer func(c net.Conn, name string)) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go answer(c, name)
	}
}

// answer replies once the client has said something or has closed its side.
func answer(c net.Conn, name string) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil && err != io.EOF {
		return
	}
	fmt.Fprintf(c, "hello from %s to %s\n", name, c.RemoteAddr())
}

// answerAll answers requests, which end with an empty line, until the client closes.
func answerAll(c net.Conn, _ string) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line != "\r\n" && line != "\n" {
			continue
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"); err != nil {
			return
		}
	}
}

func serveUDP(addr string, reply bool) error {
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return err
		}
		if !reply {
			continue
		}
		if _, err := pc.WriteTo(buf[:n], from); err != nil {
			fmt.Fprintln(os.Stderr, "ptserver:", err)
		}
	}
}

func stall(addr string) error {
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	if err := pc.(*net.UDPConn).SetReadBuffer(1); err != nil { // the kernel makes it its least
		return err
	}
	time.Sleep(24 * time.Hour)
	return nil
}

func deaf(addr string) error {
	at, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: at.Port}); err != nil {
		return err
	}
	if err := syscall.Listen(fd, 1); err != nil {
		return err
	}
	time.Sleep(24 * time.Hour)
	return nil
}

func getAll(addr string, n int) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = get(addr) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func get(addr string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return err
	}
	line, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	fmt.Print(string(line))
	return nil
}

func ask(addr string) error {
	c, err := net.DialTimeout("udp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 512))
	if err == nil {
		fmt.Println(n, "bytes")
	}
	return err
}

// talk asks over one connection, so often a second, until the server closes it.
func talk(addr, rate string) error {
	n, err := strconv.Atoi(rate)
	if err != nil || n < 1 {
		return fmt.Errorf("bad rate %q", rate)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 4096)
	for {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: ptserver\r\n\r\n"); err != nil {
			return err
		}
		if _, err := c.Read(buf); err != nil {
			return err
		}
		time.Sleep(time.Second / time.Duration(n))
	}
}
