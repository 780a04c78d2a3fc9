package kernel

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// TakesMemory reports, with the privilege to load programs, whether a global BPF function may be given a pointer to memory on this kernel
// (5.12). The only way to learn it is to load a program that has one.
func (f *Facts) TakesMemory() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.memory == nil {
		takes := loadsWithMemory()
		f.memory = &takes
	}
	return *f.memory
}

// loadsWithMemory loads a program that calls int taker(int *), which returns 0.
func loadsWithMemory() bool {
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	function := func(name string, param btf.Type) *btf.Func {
		return &btf.Func{Name: name, Linkage: btf.GlobalFunc, Type: &btf.FuncProto{
			Return: number, Params: []btf.FuncParam{{Name: "value", Type: param}},
		}}
	}
	pointer := &btf.Pointer{Target: number}
	prog, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter,
		Instructions: asm.Instructions{
			btf.WithFuncMetadata(asm.Mov.Reg(asm.R1, asm.R10), function("caller", pointer)).WithSymbol("caller"),
			asm.Add.Imm(asm.R1, -8),
			asm.StoreImm(asm.R10, -8, 0, asm.Word),
			asm.Call.Label("taker"),
			asm.Return(),
			btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, 0), function("taker", pointer)).WithSymbol("taker"),
			asm.Return(),
		},
		License: "Dual BSD/GPL",
	}, ebpf.ProgramOptions{})
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		return false
	}
	if err == nil {
		prog.Close()
	}
	return true // what else is in the way is said where it matters
}
