package nfnl

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall/tape"
)

const (
	// genmsgLen is the size of struct nfgenmsg, with which every message begins.
	genmsgLen = 4
	// bufferLen is what the kernel fills at most in one answer of a dump (netlink_dump).
	bufferLen = 32 << 10
	// patience bounds the wait for an answer, which the kernel gives at once.
	patience = 5 // seconds
)

// ErrInterrupted is the answer to a dump during which the rules changed.
var ErrInterrupted = errors.New("the rules changed while they were read")

// Conn asks nfnetlink in the namespace in which it was opened. It makes the system calls itself:
// mdlayher/netlink does each in a goroutine of its own, and every change between goroutines costs a
// locked thread, as all are that have entered a namespace, a wake-up; that was a third of the time.
type Conn struct {
	fd     int
	seq    uint32
	buffer []byte
	tape   *tape.Tape
}

// Dial opens a connection in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	return &Conn{fd: fd, buffer: make([]byte, bufferLen)}, nil
}

// DialTape is Dial for a connection whose answers are kept on a tape, or come from one: then the kernel
// is not asked.
func DialTape(t *tape.Tape) (*Conn, error) {
	if t.Plays() {
		return &Conn{fd: -1, tape: t}, nil
	}
	c, err := Dial()
	if err == nil {
		c.tape = t
	}
	return c, err
}

// Close closes the connection.
func (c *Conn) Close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
	}
}

// send asks for the objects of a kind; body are attributes.
func (c *Conn) send(typ uint16, family uint8, flags uint16, body []byte) error {
	c.seq++
	order := binary.NativeEndian
	b := make([]byte, 0, unix.SizeofNlMsghdr+genmsgLen+len(body))
	b = order.AppendUint32(b, uint32(cap(b)))
	b = order.AppendUint16(b, typ)
	b = order.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = order.AppendUint32(b, c.seq)
	b = order.AppendUint32(b, 0)
	b = append(b, family, 0, 0, 0) // struct nfgenmsg: version 0, resource id 0
	b = append(b, body...)
	return unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// receive returns the messages of one answer; they own their memory.
func (c *Conn) receive() ([]syscall.NetlinkMessage, error) {
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buffer, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, err
		case n > len(c.buffer):
			return nil, unix.EMSGSIZE
		}
		return syscall.ParseNetlinkMessage(bytes.Clone(c.buffer[:n]))
	}
}

// Dump asks for all objects of a kind, the subsystem in the upper byte of typ, and calls fn with the
// family and attributes of each, until fn fails. Objects that changed meanwhile are ErrInterrupted.
func (c *Conn) Dump(typ uint16, family uint8, body []byte, fn func(family uint8, a Attrs) error) error {
	if c.tape == nil {
		return c.dump(typ, family, body, func(data []byte) error { return each(data, fn) })
	}
	return c.taped(fmt.Sprintf("%s %d %x", Question(typ), family, body), fn, func(keep func([]byte) error) error {
		return c.dump(typ, family, body, keep)
	})
}

// Question begins the text by which a tape knows questions of a type.
func Question(typ uint16) string { return fmt.Sprintf("nfnl %#x", typ) }

// taped asks through the tape.
func (c *Conn) taped(question string, fn func(uint8, Attrs) error, ask func(func([]byte) error) error) error {
	objects, err := c.tape.Ask(question, func() (all [][]byte, err error) {
		err = ask(func(data []byte) error {
			all = append(all, data)
			return nil
		})
		return all, err
	})
	if err != nil {
		if err.Error() == ErrInterrupted.Error() {
			return ErrInterrupted // of a tape, which keeps texts
		}
		return err
	}
	for _, data := range objects {
		if err := each(data, fn); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) dump(typ uint16, family uint8, body []byte, fn func(data []byte) error) error {
	if err := c.send(typ, family, unix.NLM_F_DUMP, body); err != nil {
		return err
	}
	// The dump is read to its end in any case: the kernel begins no other on this connection before.
	var failed error
	for {
		msgs, err := c.receive()
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 && failed == nil {
				failed = ErrInterrupted
			}
			switch {
			case m.Header.Type == unix.NLMSG_ERROR:
				return answer(m.Data)
			case m.Header.Type == unix.NLMSG_DONE:
				return cmp.Or(failed, answer(m.Data))
			case failed == nil:
				failed = fn(m.Data)
			}
		}
	}
}

// answer reads the error number that ends an answer; 0 is none.
func answer(b []byte) error {
	if len(b) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(b)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// each reads one object.
func each(data []byte, fn func(family uint8, a Attrs) error) error {
	if len(data) < genmsgLen {
		return fmt.Errorf("read netlink message: %d bytes", len(data))
	}
	a, err := Parse(data[genmsgLen:])
	if err != nil {
		return err
	}
	return fn(data[0], a)
}

// Get asks for one object and calls fn with it. Tables and what is in them have a family.
func (c *Conn) Get(typ uint16, family uint8, body []byte, fn func(family uint8, a Attrs) error) error {
	if c.tape == nil {
		return c.get(typ, family, body, func(data []byte) error { return each(data, fn) })
	}
	question := fmt.Sprintf("%s get %x", Question(typ), body)
	if family != unix.AF_UNSPEC {
		question += fmt.Sprintf(" %d", family)
	}
	return c.taped(question, fn, func(keep func([]byte) error) error {
		return c.get(typ, family, body, keep)
	})
}

func (c *Conn) get(typ uint16, family uint8, body []byte, fn func(data []byte) error) error {
	if err := c.send(typ, family, 0, body); err != nil {
		return err
	}
	msgs, err := c.receive()
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if m.Header.Type == unix.NLMSG_ERROR {
			return answer(m.Data)
		}
		if err := fn(m.Data); err != nil {
			return err
		}
	}
	return nil
}
