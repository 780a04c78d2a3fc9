package tracer_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// delayTCP is a tc program that keeps each packet of more than 100 bytes for a time: it asks the clock
// until that has passed. Acknowledgements pass at once.
func delayTCP(t *testing.T, delay time.Duration) *ebpf.Program {
	t.Helper()
	const length, next = 0, -1 // __sk_buff->len, TCX_NEXT
	word := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	proto := func(params ...btf.FuncParam) *btf.FuncProto { return &btf.FuncProto{Return: word, Params: params} }
	loop := asm.LoadImm(asm.R2, -1, asm.DWord)
	loop.Src = asm.PseudoFunc
	insns := asm.Instructions{
		btf.WithFuncMetadata(asm.LoadMem(asm.R3, asm.R1, length, asm.Word).WithSymbol("delay"),
			&btf.Func{Name: "delay", Type: proto(), Linkage: btf.GlobalFunc}),
		asm.JLE.Imm(asm.R3, 100, "pass"),
		asm.FnKtimeGetNs.Call(),
		asm.LoadImm(asm.R1, delay.Nanoseconds(), asm.DWord), asm.Add.Reg(asm.R0, asm.R1),
		asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R1, 1<<20), loop.WithReference("until"),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, -8), asm.Mov.Imm(asm.R4, 0), asm.FnLoop.Call(),
		asm.Mov.Imm(asm.R0, next).WithSymbol("pass"), asm.Return(),
		// until(index, end): 1 ends the loop.
		btf.WithFuncMetadata(asm.LoadMem(asm.R6, asm.R2, 0, asm.DWord).WithSymbol("until"),
			&btf.Func{Name: "until", Type: proto(btf.FuncParam{Name: "i", Type: word}, btf.FuncParam{Name: "end", Type: &btf.Pointer{Target: word}}),
				Linkage: btf.StaticFunc}),
		asm.FnKtimeGetNs.Call(), asm.Mov.Reg(asm.R1, asm.R0), asm.Mov.Imm(asm.R0, 0), asm.JLT.Reg(asm.R1, asm.R6, "again"),
		asm.Mov.Imm(asm.R0, 1), asm.Return().WithSymbol("again"),
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Name: "delay", Instructions: insns})
	if err != nil {
		t.Skipf("this kernel has no bpf_loop: %v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// attachDelay slows what a device receives.
func attachDelay(t *testing.T, ns *lab.Namespace, device string, p *ebpf.Program) {
	t.Helper()
	index, err := ns.Ifindex(device)
	labtest.Must(t, err)
	var l link.Link
	err = ns.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Program: p, Interface: int(index), Attach: ebpf.AttachTCXIngress})
		return err
	})
	if err != nil {
		t.Skipf("this kernel has no tcx: %v", err)
	}
	t.Cleanup(func() { l.Close() })
}

// TestLatencySlowed: the segment that is slowed is the one that grows, by the amount set, and the
// comparison names it.
func TestLatencySlowed(t *testing.T) {
	const delay = 5 * time.Millisecond
	d := labtest.Demo(t, lab.Options{})
	serveKept(t, d.Web, d.App)
	// What web sends and what is sent to app pass other ports of the bridge.
	attachDelay(t, d.Router, lab.AppPortDev, delayTCP(t, delay))
	measure := func(from, to string) tracer.TargetLatency {
		r, _ := measuring(t, d.Lab, func(cfg *tracer.LatencyConfig) {
			cfg.Source, cfg.Target, cfg.Count, cfg.Rate = from, to+":"+keptPort, 40, 20
		})
		if got := r.Targets[0].Report.RoundTrip.Count; got < 30 {
			t.Fatalf("%s to %s: %d round trips, want 40", from, to, got)
		}
		return r.Targets[0]
	}
	there, back := measure("app", "web"), measure("web", "app")
	for _, tt := range []struct {
		name string
		got  tracer.TargetLatency
		slow path.Direction
	}{{"request", there, path.Request}, {"reply", back, path.Reply}} {
		grown := 0
		for _, s := range tt.got.Segments {
			took := float64(s.Distribution.P50)
			if s.Kind == path.SegmentBridge && s.Direction == tt.slow && s.Device == lab.AppPortDev && math.Abs(took-float64(delay)) < 0.1*float64(delay) {
				grown++
			} else if s.Kind != path.SegmentApplication && took > 0.1*float64(delay) {
				t.Errorf("%s slowed: %s takes %v", tt.name, segmentLine(&s), time.Duration(s.Distribution.P50))
			}
		}
		if grown != 1 {
			t.Errorf("%s slowed: %d segments of the bridge take %v, want 1", tt.name, grown, delay)
		}
	}
}

// TestLatencyQueued: what waits in a device's queue is told from what is forwarded: a token bucket lets
// a request pass each time its tokens have come, and every other part of the way stays as it was.
func TestLatencyQueued(t *testing.T) {
	const (
		rate  = 200_000 // bit/s
		frame = 1250    // bytes, of a request
		// headers are those of Ethernet, IPv4, and TCP with timestamps.
		headers = 14 + 20 + 32
		wait    = time.Second * frame * 8 / rate
	)
	d := labtest.Demo(t, lab.Options{})
	serveKept(t, d.Web)
	shell(t, d.Router, fmt.Sprintf("tc qdisc add dev %s root tbf rate %dbit burst 1600 limit 30000", lab.WebPortDev, rate))
	request := "HEAD / HTTP/1.1\r\nX: "
	request += strings.Repeat("x", frame-headers-len(request)-4) + "\r\n\r\n"
	r, _ := measuring(t, d.Lab, func(cfg *tracer.LatencyConfig) {
		cfg.Source, cfg.Target, cfg.Count, cfg.Rate, cfg.Payload = "app", "web:"+keptPort, 40, 100, []byte(request)
	})
	grown := 0
	for _, s := range r.Targets[0].Segments {
		took := time.Duration(s.Distribution.P50)
		isQueue := s.Kind == path.SegmentQdisc && s.Direction == path.Request && s.Device == lab.WebPortDev
		switch {
		case isQueue && math.Abs(float64(took-wait)) < 0.1*float64(wait):
			grown++
		case isQueue, s.Kind != path.SegmentApplication && took > wait/10:
			t.Errorf("%s takes %v, the queue was to take %v", segmentLine(&s), took, wait)
		}
	}
	if grown != 1 {
		t.Errorf("%d segments are the queue of %s with %v, want 1", grown, lab.WebPortDev, wait)
	}
	for _, k := range r.Targets[0].Report.Kinds {
		if k.Kind == path.SegmentQdisc && math.Abs(float64(k.Typical)-float64(wait)) > 0.1*float64(wait) {
			t.Errorf("of a typical round trip %v are queues, want %v", time.Duration(k.Typical), wait)
		}
	}
}
