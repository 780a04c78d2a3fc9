package topo

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value, ethtoolRequest struct ifreq with a pointer (uapi linux/ethtool.h, linux/if.h).
type (
	ethtoolValue   struct{ command, data uint32 }
	ethtoolRequest struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of the union
	}
)

// ethtool asks one setting of a device, through any socket of its namespace.
func ethtool(fd int, device string, command uint32) (bool, error) {
	value := ethtoolValue{command: command}
	req := ethtoolRequest{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return false, errno
	}
	return value.data != 0, nil
}
