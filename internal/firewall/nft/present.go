package nft

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// present reports whether the kernel has nf_tables now. Asking over netlink would answer it too, but
// would make the kernel load the module (nfnetlink_rcv_msg calls request_module).
func present() bool {
	// A kernel without modules has no such file and cannot load any: it may be asked.
	if _, err := os.Stat("/proc/modules"); errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if _, err := os.Stat("/sys/module/nf_tables"); err == nil {
		return true
	}
	if builtin, known := builtIn(); known {
		return builtin
	}
	return hasSymbol()
}

// builtIn looks in the list of what the running kernel was built with; known is false where that list
// is not installed, as in containers.
func builtIn() (builtin, known bool) {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false, false
	}
	list, err := os.ReadFile(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]), "modules.builtin"))
	return bytes.Contains(list, []byte("/nf_tables.ko")), err == nil
}

// hasSymbol looks for a function of nf_tables among the kernel's. It takes tens of milliseconds and is
// the last resort.
func hasSymbol() bool {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.Contains(lines.Text(), " nft_register_expr") {
			return true
		}
	}
	return false
}
