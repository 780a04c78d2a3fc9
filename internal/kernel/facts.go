package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// ErrNoBTF says that the kernel does not describe its types, without which nothing can be loaded.
const ErrNoBTF = UnsupportedError("this kernel has no type information (/sys/kernel/btf/vmlinux): " +
	"pathtrace needs a kernel built with CONFIG_DEBUG_INFO_BTF=y")

// Facts answers questions about the running kernel. It is safe for concurrent use.
type Facts struct {
	spec  *btf.Spec
	cache *btf.Cache

	mu      sync.Mutex
	reasons map[uint32]string // nil until asked for
	resets  map[uint32]string
	symbols *symbolTable
	memory  *bool // nil until asked for
}

// Load reads the kernel's type information. It returns ErrNoBTF if there is none.
func Load() (*Facts, error) {
	cache := btf.NewCache()
	spec, err := cache.Kernel()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ebpf.ErrNotSupported) {
		return nil, ErrNoBTF
	}
	if err != nil {
		return nil, fmt.Errorf("read kernel type information: %w", err)
	}
	return &Facts{spec: spec, cache: cache}, nil
}

// Cache is the decoded type information, for loading programs without decoding it again; nil after
// Settle.
func (f *Facts) Cache() *btf.Cache { return f.cache }

// Types describes the core kernel's types, without those of modules; nil after Settle.
func (f *Facts) Types() *btf.Spec { return f.spec }

// Settle reads the names that may be asked for later and lets go of the type information, which takes
// several megabytes. Afterwards only DropReason, ResetReason, Symbol, HasSymbol and TakesMemory know
// anything. It must not run beside other methods.
func (f *Facts) Settle() {
	f.DropReason(1)
	f.ResetReason(1)
	f.spec, f.cache = nil, nil
}

// Release returns the kernel's release, as uname -r prints it.
func Release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// TracepointArgs returns how many arguments a BTF tracepoint passes, and false if the kernel does
// not have it. The count excludes the leading context pointer.
func (f *Facts) TracepointArgs(name string) (int, bool) {
	var typedef *btf.Typedef
	if err := f.spec.TypeByName("btf_trace_"+name, &typedef); err != nil {
		return 0, false
	}
	ptr, ok := typedef.Type.(*btf.Pointer)
	if !ok {
		return 0, false
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	if !ok || len(proto.Params) == 0 {
		return 0, false
	}
	return len(proto.Params) - 1, true
}

// HasFunction reports whether the core kernel has a function of that name that can be described.
func (f *Facts) HasFunction(name string) bool {
	var fn *btf.Func
	return f.spec.TypeByName(name, &fn) == nil
}

// HasType reports whether the core kernel knows a structure of that name.
func (f *Facts) HasType(name string) bool {
	var s *btf.Struct
	return f.spec.TypeByName(name, &s) == nil
}

// DropReason names a reason of kfree_skb without its SKB_DROP_REASON_ prefix. An unknown one is
// returned as "reason N"; 0 and kernels without reasons give "".
func (f *Facts) DropReason(code uint32) string {
	if code == 0 {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reasons == nil {
		f.reasons = f.readDropReasons()
	}
	return nameOr(f.reasons, code)
}

// ResetReason names a reason of tcp_send_reset without its SK_RST_REASON_ prefix.
func (f *Facts) ResetReason(code uint32) string {
	if code == 0 {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.resets == nil {
		f.resets = map[uint32]string{}
		f.addEnum(f.resets, "sk_rst_reason", "SK_RST_REASON_")
	}
	return nameOr(f.resets, code)
}

func nameOr(names map[uint32]string, code uint32) string {
	if name, ok := names[code]; ok {
		return name
	}
	return fmt.Sprintf("reason %d", code)
}

// readDropReasons collects enum skb_drop_reason and the enums of subsystems, whose values carry
// their subsystem in the upper 16 bits (include/net/dropreason.h).
func (f *Facts) readDropReasons() map[uint32]string {
	names := map[uint32]string{}
	f.addEnum(names, "skb_drop_reason", "SKB_DROP_REASON_")
	for _, enum := range []string{"mac80211_drop_reason", "ovs_drop_reason"} {
		f.addEnum(names, enum, "")
	}
	return names
}

func (f *Facts) addEnum(to map[uint32]string, enum, prefix string) {
	var e *btf.Enum
	if f.spec.TypeByName(enum, &e) != nil {
		return
	}
	for _, v := range e.Values {
		to[uint32(v.Value)] = strings.TrimPrefix(v.Name, prefix)
	}
}

// Lockdown returns the kernel's lockdown mode: "", "none", "integrity" or "confidentiality".
func Lockdown() string {
	text, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return ""
	}
	return parseLockdown(string(text))
}

func parseLockdown(text string) string {
	_, rest, ok := strings.Cut(text, "[")
	if !ok {
		return ""
	}
	mode, _, _ := strings.Cut(rest, "]")
	return mode
}
