package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// genmsgLen is the size of struct nfgenmsg, with which every message begins.
const genmsgLen = 4

// errInterrupted is the answer to a dump during which the rules changed.
var errInterrupted = errors.New("the rules changed while they were read")

// conn asks nf_tables of the namespace in which it was opened.
type conn struct{ nl *netlink.Conn }

func dial() (*conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	return &conn{nl}, nil
}

func (c *conn) close() { _ = c.nl.Close() }

// message builds a request; body are attributes.
func message(typ int, family uint8, flags netlink.HeaderFlags, body []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | typ),
			Flags: netlink.Request | flags,
		},
		// struct nfgenmsg: family, version 0, resource id 0.
		Data: append([]byte{family, 0, 0, 0}, body...),
	}
}

// dump asks for all objects of a kind and calls fn with the family and attributes of each.
func (c *conn) dump(typ int, family uint8, body []byte, fn func(family uint8, a attrs) error) error {
	msgs, err := c.nl.Execute(message(typ, family, netlink.Dump, body))
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return errInterrupted
		}
		if err := each(m, fn); err != nil {
			return err
		}
	}
	return nil
}

// each reads one message of an answer.
func each(m netlink.Message, fn func(family uint8, a attrs) error) error {
	if len(m.Data) < genmsgLen {
		return fmt.Errorf("read netlink message: %d bytes", len(m.Data))
	}
	a, err := parse(m.Data[genmsgLen:])
	if err != nil {
		return err
	}
	return fn(m.Data[0], a)
}

// generation is the number of the ruleset, which every change raises.
func (c *conn) generation() (id uint32, err error) {
	msgs, err := c.nl.Execute(message(unix.NFT_MSG_GETGEN, unix.AF_UNSPEC, 0, nil))
	if err != nil {
		return 0, err
	}
	for _, m := range msgs {
		err = each(m, func(_ uint8, a attrs) error { id = a.u32(unix.NFTA_GEN_ID); return nil })
	}
	return id, err
}
