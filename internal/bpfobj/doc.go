// Package bpfobj holds the compiled BPF objects of bpf/, one per family of hooks, and the Go code
// that bpf2go generates for them. Both are committed, so that building needs no clang; the objects are
// compressed (pack), which takes three megabytes off the program, and know no more of the lines of C than
// where each function begins.
//
// To regenerate: make generate (clang 19 and libbpf's headers).
package bpfobj

// The compiler and the strip tool are pinned by the Makefile through BPF2GO_CC and BPF2GO_STRIP.
// With operations on 32 bits (v3) programs are shorter; the inlined ones, which are for the oldest kernels,
// do without. Only the first object emits the Go form of the shared types.

//go:generate go tool bpf2go -target amd64,arm64 -output-stem device Device ../../bpf/device.bpf.c -- -mcpu=v3 -I../../bpf
//go:generate go tool bpf2go -target amd64,arm64 -output-stem drop -no-global-types Drop ../../bpf/drop.bpf.c -- -mcpu=v3 -I../../bpf
//go:generate go tool bpf2go -target amd64,arm64 -output-stem socket -no-global-types Socket ../../bpf/socket.bpf.c -- -mcpu=v3 -I../../bpf
//go:generate go tool bpf2go -target amd64,arm64 -output-stem ready -no-global-types Ready ../../bpf/ready.bpf.c -- -mcpu=v3 -I../../bpf
//go:generate go tool bpf2go -target amd64,arm64 -output-stem icmp -no-global-types ICMP ../../bpf/icmp.bpf.c -- -mcpu=v3 -I../../bpf
//go:generate go tool bpf2go -target amd64,arm64 -output-stem route -no-global-types Route ../../bpf/route.bpf.c -- -mcpu=v3 -I../../bpf
//go:generate go tool bpf2go -target amd64,arm64 -output-stem netfilter -no-global-types Netfilter ../../bpf/netfilter.bpf.c -- -mcpu=v3 -I../../bpf
//go:generate go tool bpf2go -target amd64,arm64 -output-stem function -no-global-types Function ../../bpf/function.bpf.c -- -mcpu=v3 -I../../bpf
//go:generate go tool bpf2go -target amd64,arm64 -output-stem device_inline -no-global-types DeviceInline ../../bpf/device.bpf.c -- -I../../bpf -DINLINE_PARSER
//go:generate go tool bpf2go -target amd64,arm64 -output-stem drop_inline -no-global-types DropInline ../../bpf/drop.bpf.c -- -I../../bpf -DINLINE_PARSER
//go:generate go tool bpf2go -target amd64,arm64 -output-stem socket_inline -no-global-types SocketInline ../../bpf/socket.bpf.c -- -I../../bpf -DINLINE_PARSER
//go:generate go tool bpf2go -target amd64,arm64 -output-stem function_inline -no-global-types FunctionInline ../../bpf/function.bpf.c -- -I../../bpf -DINLINE_PARSER
//go:generate go tool bpf2go -target amd64,arm64 -output-stem empty -no-global-types Empty ../../bpf/empty.bpf.c -- -mcpu=v3 -I../../bpf
//go:generate go run ./pack
