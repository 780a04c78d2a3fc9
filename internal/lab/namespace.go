package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// runDir is where `ip netns` keeps named namespaces.
const runDir = "/run/netns"

// Namespace is a network namespace of a Lab. Its loopback device is up, nothing else is in it.
type Namespace struct {
	// Name is the name as given, or the name under /run/netns if the lab is Named.
	Name string
	// Path opens the namespace: /run/netns/NAME, or /proc/PID/fd/N, which other processes can open
	// as well while this one lives.
	Path string
	// Inode is the number by which the kernel and pathtrace know the namespace.
	Inode uint32

	lab     *Lab
	file    *os.File
	handle  *netlink.Handle
	mounted string // the mount to remove, empty if anonymous

	ruleSerial atomic.Uint64 // of the firewall rules added so far
}

// NewNamespace creates a namespace.
func (l *Lab) NewNamespace(name string) (*Namespace, error) {
	file, err := netns.New()
	if err != nil {
		return nil, explain(err, "network namespaces", "CONFIG_NET_NS")
	}
	ns := &Namespace{Name: name, Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd()), lab: l, file: file}
	if err := ns.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up namespace %s: %w", name, err), ns.close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(fmt.Errorf("create namespace %s: %w", name, os.ErrClosed), ns.close())
	}
	l.namespaces = append(l.namespaces, ns)
	return ns, nil
}

func (ns *Namespace) setUp() error {
	id, err := netns.Identify(ns.file)
	if err != nil {
		return err
	}
	ns.Inode = id.Inode
	if ns.lab.opts.Named {
		if err := ns.mount(ns.lab.opts.Prefix + ns.Name); err != nil {
			return err
		}
	}
	ns.handle, err = netlink.NewHandleAt(vishnetns.NsHandle(ns.file.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	if err := ns.setDefaults(); err != nil {
		return err
	}
	return ns.SetUp("lo")
}

// setDefaults undoes what a namespace inherits from the one it is made in, so that a lab behaves the
// same on every host, and lets IPv6 addresses be used at once.
func (ns *Namespace) setDefaults() error {
	values := map[string]string{
		"net/ipv4/ip_forward":             "0",
		"net/ipv4/conf/all/rp_filter":     "0",
		"net/ipv4/conf/default/rp_filter": "0",
		// A connection closed behind a broken path would keep the namespace alive for minutes.
		"net/ipv4/tcp_orphan_retries": "1",
	}
	if ns.lab.ipv6 {
		values["net/ipv6/conf/all/disable_ipv6"] = "0"
		values["net/ipv6/conf/default/disable_ipv6"] = "0"
		values["net/ipv6/conf/all/forwarding"] = "0"
		values["net/ipv6/conf/default/accept_dad"] = "0"
		values["net/ipv6/conf/default/accept_ra"] = "0"
		values["net/ipv6/conf/default/router_solicitations"] = "0"
	}
	return ns.sysctls(values)
}

// mount gives the namespace a name as `ip netns add` does.
func (ns *Namespace) mount(name string) error {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return fmt.Errorf("create %s: %w", runDir, err)
	}
	target := filepath.Join(runDir, name)
	f, err := os.OpenFile(target, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("name namespace: %w", err)
	}
	f.Close()
	if err := unix.Mount(ns.Path, target, "none", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("mount namespace at %s: %w", target, err), os.Remove(target))
	}
	ns.mounted, ns.Path, ns.Name = target, target, name
	return nil
}

func (ns *Namespace) close() error {
	var errs []error
	if ns.handle != nil {
		ns.handle.Close()
	}
	if ns.mounted != "" {
		errs = append(errs, unix.Unmount(ns.mounted, unix.MNT_DETACH), os.Remove(ns.mounted))
		ns.mounted = ""
	}
	errs = append(errs, ns.file.Close())
	return errors.Join(errs...)
}

// Do runs fn inside the namespace, on a locked thread. Sockets that fn opens stay in the namespace.
func (ns *Namespace) Do(fn func() error) error { return netns.Do(ns.file, fn) }

// Sysctl sets a kernel parameter of the namespace; key is a path such as "net/ipv4/ip_forward".
func (ns *Namespace) Sysctl(key, value string) error {
	return ns.sysctls(map[string]string{key: value})
}

func (ns *Namespace) sysctls(values map[string]string) error {
	return ns.Do(func() error {
		for key, value := range values {
			// The file exists or not by the namespace of the thread; it must not be created.
			f, err := os.OpenFile(filepath.Join("/proc/sys", key), os.O_WRONLY, 0)
			if err != nil {
				return fmt.Errorf("set sysctl: %w", err)
			}
			_, err = f.WriteString(value)
			if err = errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("set sysctl %s to %s: %w", key, value, err)
			}
		}
		return nil
	})
}

// Listen announces on a TCP address inside the namespace.
func (ns *Namespace) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var ln net.Listener
	err := ns.Do(func() (err error) {
		ln, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return ln, err
}

// ListenPacket announces on a UDP address inside the namespace.
func (ns *Namespace) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var pc net.PacketConn
	err := ns.Do(func() (err error) {
		pc, err = new(net.ListenConfig).ListenPacket(ctx, network, address)
		return err
	})
	return pc, err
}

// Dial connects from inside the namespace to an address that is a literal, not a name.
func (ns *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := ns.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
