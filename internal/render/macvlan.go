package render

import (
	"cmp"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// isUpper reports whether a hop is on a device that shares its parent's link: what it sends is seen on
// the parent once more, what it receives on the parent alone.
func isUpper(h *path.Hop) bool {
	switch h.DeviceKind {
	case "macvlan", "macvtap", "ipvlan", "ipvtap":
		return true
	}
	return false
}

// fromUpper names the macvlan or ipvlan device that the packet just left for its parent in another
// namespace, by its network if that is known; "" if it did not.
func (w *walker) fromUpper(h *path.Hop) string {
	if w.last == nil || !isUpper(w.last) || w.last.Action != path.ActionTransmit || w.last.NetNS == h.NetNS {
		return ""
	}
	return w.last.DeviceKind + " " + shorten(cmp.Or(w.last.Network, w.last.Device), maxName)
}

// upperReceived makes the arrival at a macvlan or ipvlan device a step: the kernel hands the packet over
// without reporting that it was received, so the first hook shows it.
func (w *walker) upperReceived(h *path.Hop) bool {
	if !isUpper(h) || h.Stage != path.StagePrerouting || h.Action != path.ActionEnter || w.last == nil ||
		w.last.NetNS == h.NetNS || w.in != nil || len(w.steps()) > 0 {
		return false
	}
	w.receive(h)
	return true
}
