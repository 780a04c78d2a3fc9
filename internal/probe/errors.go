package probe

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/kernel"
)

// explain turns the kernel's refusal into a sentence that says what to do. The verifier's log stays
// reachable through errors.As for verbose output.
func explain(err error) error {
	var verifier *ebpf.VerifierError
	rejected := errors.As(err, &verifier) && len(verifier.Log) > 0
	refused := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	switch mode := kernel.Lockdown(); {
	case (rejected || refused) && mode == "confidentiality": // the helpers that read are unknown to the verifier then
		return kernel.PermissionError(fmt.Sprintf("the kernel is locked down (%s mode), which forbids reading "+
			"kernel memory with BPF: boot without lockdown=confidentiality to trace", mode))
	case rejected:
		return shortVerifierError{verifier}
	case refused:
		if missing := kernel.CheckPrivilege(); missing != nil {
			return missing
		}
		return fmt.Errorf("the kernel refused it although all capabilities are there "+
			"(a security module, or a container's seccomp profile): %w", err)
	}
	return err
}

// explainMap says why a map could not be made. A kernel that has the ring buffer (5.8) takes all of ours.
func explainMap(name string, err error) error {
	if !hasRingBuffer() {
		return untraceable("it has no BPF ring buffer: pathtrace needs Linux 5.10 or newer")
	}
	return fmt.Errorf("create map %s: %w", name, explain(err))
}

func untraceable(why string) error {
	return kernel.UnsupportedError(fmt.Sprintf("this kernel (%s) cannot be traced: %s", kernel.Release(), why))
}

func hasRingBuffer() bool {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err == nil {
		m.Close()
	}
	return !errors.Is(err, unix.EINVAL)
}

// shortVerifierError is a verifier error whose text is one line.
type shortVerifierError struct{ err *ebpf.VerifierError }

func (e shortVerifierError) Error() string {
	return fmt.Sprintf("the kernel's verifier rejected the program (%v); run again with -v for its log",
		e.err.Cause)
}

func (e shortVerifierError) Unwrap() error { return e.err }

// VerifierLog returns the verifier's log behind err, "" if there is none.
func VerifierLog(err error) string {
	var verifier *ebpf.VerifierError
	if !errors.As(err, &verifier) {
		return ""
	}
	return fmt.Sprintf("%+v", verifier)
}
