package nftrace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableOwner is NFT_TABLE_F_OWNER (include/uapi/linux/netfilter/nf_tables.h, Linux 5.12): only the
// socket that made the table can change it, and the table goes when that socket is closed.
const tableOwner = 1 << 1

// first comes before every table that people or programs make: raw tables are at -300, and the
// defragmentation of connection tracking at -400.
const first = -1000

// End is one end of the flow: packets from it and packets to it are reported.
type End struct {
	Addr  netip.AddrPort // port 0: whatever the port
	Proto uint8          // IP protocol number
	// Peer is the port at the other end, 0 for any.
	Peer uint16
}

// patience bounds how long the kernel may take for the answer to a message.
const patience = 5 * time.Second

// install makes the table in the namespace of the calling thread and returns the socket that owns it.
// google/nftables is not used for the table and its chains: it sends every table without flags.
func install(name string, ends []End) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	messages, err := transaction(name, ends)
	if err == nil {
		err = send(conn, messages)
	}
	if err != nil {
		_ = conn.Close() // the first error says more
		return nil, refusal(err)
	}
	return conn, nil
}

// transaction lists the messages that make the table.
func transaction(name string, ends []End) ([]netlink.Message, error) {
	b := builder{table: name}
	b.add(unix.NFT_MSG_NEWTABLE, func(a *netlink.AttributeEncoder) error {
		a.String(unix.NFTA_TABLE_NAME, name)
		a.Uint32(unix.NFTA_TABLE_FLAGS, tableOwner)
		return nil
	})
	for _, hook := range []struct {
		chain  string
		number uint32
	}{{"prerouting", unix.NF_INET_PRE_ROUTING}, {"output", unix.NF_INET_LOCAL_OUT}} {
		b.chain(hook.chain, hook.number)
		for _, end := range ends {
			b.rule(hook.chain, end.rule(true))
			b.rule(hook.chain, end.rule(false))
		}
	}
	return b.messages, b.err
}

// send sends the messages as one batch and waits for the kernel's answers.
func send(conn *netlink.Conn, messages []netlink.Message) error {
	edge := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request},
			Data: nfgen(unix.NFPROTO_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)}
	}
	batch := append([]netlink.Message{edge(unix.NFNL_MSG_BATCH_BEGIN)}, messages...)
	if _, err := conn.SendMessages(append(batch, edge(unix.NFNL_MSG_BATCH_END))); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for answered := 0; answered < len(messages); {
		answers, err := conn.Receive()
		if err != nil {
			return err
		}
		answered += len(answers)
	}
	return nil
}

// builder makes messages; the first error stays.
type builder struct {
	table    string
	messages []netlink.Message
	err      error
}

func (b *builder) add(kind uint16, fill func(*netlink.AttributeEncoder) error) {
	a := netlink.NewAttributeEncoder()
	a.ByteOrder = binary.BigEndian
	err := fill(a)
	body, encodeErr := a.Encode()
	b.err = errors.Join(b.err, err, encodeErr)
	b.messages = append(b.messages, netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Append,
		},
		Data: append(nfgen(unix.NFPROTO_INET, 0), body...),
	})
}

func (b *builder) chain(name string, hook uint32) {
	b.add(unix.NFT_MSG_NEWCHAIN, func(a *netlink.AttributeEncoder) error {
		a.String(unix.NFTA_CHAIN_TABLE, b.table)
		a.String(unix.NFTA_CHAIN_NAME, name)
		a.String(unix.NFTA_CHAIN_TYPE, "filter")
		a.Nested(unix.NFTA_CHAIN_HOOK, func(a *netlink.AttributeEncoder) error {
			a.ByteOrder = binary.BigEndian
			a.Uint32(unix.NFTA_HOOK_HOOKNUM, hook)
			a.Int32(unix.NFTA_HOOK_PRIORITY, first)
			return nil
		})
		return nil
	})
}

func (b *builder) rule(chain string, exprs []expr.Any) {
	b.add(unix.NFT_MSG_NEWRULE, func(a *netlink.AttributeEncoder) error {
		a.String(unix.NFTA_RULE_TABLE, b.table)
		a.String(unix.NFTA_RULE_CHAIN, chain)
		a.Nested(unix.NFTA_RULE_EXPRESSIONS, func(a *netlink.AttributeEncoder) error {
			for _, e := range exprs {
				data, err := expr.Marshal(unix.NFPROTO_INET, e)
				if err != nil {
					return err
				}
				a.Bytes(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, data)
			}
			return nil
		})
		return nil
	})
}

// nfgen is struct nfgenmsg (include/uapi/linux/netfilter/nfnetlink.h).
func nfgen(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// refusal says what the kernel lacks.
func refusal(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("add the trace table: the kernel needs nf_tables with the inet family and "+
			"owned tables (Linux 5.12): %w", err)
	}
	return fmt.Errorf("add the trace table: %w", err)
}

// rule matches packets to the end, or from it, and sets their trace flag.
func (e End) rule(to bool) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if e.Addr.Addr().Is6() {
		family, offset, size = unix.NFPROTO_IPV6, 8, 16
	}
	own, peer := uint32(0), uint32(2) // offsets of the ports: source, destination
	if to {
		offset += size
		own, peer = peer, own
	}
	out := equal(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, []byte{family})
	out = append(out, equal(&expr.Payload{
		DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size,
	}, e.Addr.Addr().AsSlice())...)
	out = append(out, equal(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, []byte{e.Proto})...)
	out = append(out, portEqual(own, e.Addr.Port())...)
	out = append(out, portEqual(peer, e.Peer)...)
	return append(out, &expr.Immediate{Register: 1, Data: []byte{1}},
		&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1})
}

// portEqual compares a port of the transport header; port 0 matches all.
func portEqual(offset uint32, port uint16) []expr.Any {
	if port == 0 {
		return nil
	}
	return equal(&expr.Payload{
		DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2,
	}, binary.BigEndian.AppendUint16(nil, port))
}

func equal(load expr.Any, value []byte) []expr.Any {
	return []expr.Any{load, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
}
