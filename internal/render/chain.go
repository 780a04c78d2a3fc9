package render

import (
	"cmp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// device takes a hop of a device: receive, queue or transmit.
func (w *walker) device(h *path.Hop) {
	switch h.Action {
	case path.ActionReceive:
		w.receive(h)
	case path.ActionQueue, path.ActionTransmit:
		w.transmit(h)
	}
}

// receive starts a chain of devices. A further receive without a transmit in between is the packet
// on its way up: to the bridge of the port, to the VLAN of the device.
func (w *walker) receive(h *path.Hop) {
	if w.in != nil && w.out == nil {
		if w.in.Device != h.Device {
			w.chain, w.in = append(w.chain, deviceText(h)), h
		}
		return
	}
	text, upper := "received", w.fromUpper(h)
	if w.last != nil && w.last.Outer == nil && h.Container == "" && (h.DeviceKind == "veth" || upper != "") && len(w.steps()) == 0 {
		text += " from " + placeName(w.last)
	}
	if upper != "" {
		text = upper + ": " + text
	}
	w.chain, w.in, w.out = []string{deviceText(h)}, h, nil
	w.sentStep, w.outStep = -1, -1
	w.inStep = w.add(h, stepPass, h.Device, text)
}

// transmit shows how the packet left: sent, bridged or forwarded.
func (w *walker) transmit(h *path.Hop) {
	switch {
	case w.out != nil && w.out.Device == h.Device:
		return // the same packet again: queued before, or a further segment
	case w.out != nil && w.outStep >= 0 && w.outStep == len(w.steps())-1:
		w.extend(h)
	case w.out != nil:
		w.outStep = w.add(h, stepPass, h.Device, deviceText(w.out)+" → "+h.Device)
	case w.in == nil && w.sentStep >= 0:
		w.steps()[w.sentStep].Device = h.Device
	case w.in == nil:
		w.outStep = w.add(h, stepPass, h.Device, w.leaveText(h))
	default:
		w.forward(h)
	}
	w.chain, w.out = append(w.chain, deviceText(h)), h
}

// leaveText describes a packet that leaves a namespace without having been received by a device of
// it, such as one encapsulated there.
func (w *walker) leaveText(h *path.Hop) string {
	if h.Outer != nil {
		return "sent to " + hostOf(h.Outer.Dst)
	}
	if upper := w.fromUpper(h); upper != "" {
		return upper + " → " + h.Device
	}
	return "transmitted"
}

// extend adds a lower device to the step by which the packet left: the port of a bridge, the device
// below a VLAN.
func (w *walker) extend(h *path.Hop) {
	s := &w.steps()[w.outStep]
	s.Text += " → " + h.Device
	s.Device, s.OffsetNS = h.Device, h.TimeNS
}

// forward shows a packet that was received on one device and leaves by another. If nothing happened
// in between, that it was received is part of the same step.
func (w *walker) forward(h *path.Hop) {
	var text string
	if b := w.bridge(h); b != "" {
		text = b + ": " + w.in.Device + " → " + h.Device
	} else {
		text = "forward " + strings.Join(dedupe(append(w.chain, deviceText(h))), " → ")
	}
	steps := w.steps()
	if w.inStep >= 0 && w.inStep == len(steps)-1 {
		w.groups[len(w.groups)-1].Steps = steps[:w.inStep]
	}
	w.outStep = w.add(h, stepPass, h.Device, text)
	w.inStep = -1
}

// bridge names the bridge if h leaves by another port of the bridge that the packet came in by.
func (w *walker) bridge(h *path.Hop) string {
	if w.in.Bridge == "" || w.in.Bridge != h.Bridge {
		return ""
	}
	return "bridge " + shorten(cmp.Or(h.Network, w.in.Network, h.Bridge), maxName)
}

// dedupe drops neighbours that are equal.
func dedupe(names []string) []string {
	var out []string
	for _, n := range names {
		if len(out) == 0 || out[len(out)-1] != n {
			out = append(out, n)
		}
	}
	return out
}
