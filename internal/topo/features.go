package topo

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
)

// features are parts of the kernel that are only asked where they are there already: a request for
// them would load a module.
type features struct{ tcpDiag, conntrack bool }

// features tells what this kernel has, as a loaded module or built in. For the latter only the names
// of symbols are read, which need no privilege.
func (t *Topology) features() features {
	t.featuresOnce.Do(func() {
		loaded := func(module string) bool {
			_, err := os.Stat(filepath.Join("/sys/module", module))
			return err == nil
		}
		t.has = features{tcpDiag: loaded("tcp_diag"), conntrack: loaded("nf_conntrack_netlink")}
		if t.hasSymbol != nil {
			t.has.tcpDiag = t.has.tcpDiag || t.hasSymbol("tcp_diag_dump")
			t.has.conntrack = t.has.conntrack || t.hasSymbol("ctnetlink_get_conntrack")
			return
		}
		f, err := os.Open(filepath.Join(t.procfs, "kallsyms"))
		if err != nil {
			return
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for !(t.has.tcpDiag && t.has.conntrack) && lines.Scan() {
			line := lines.Bytes()
			t.has.tcpDiag = t.has.tcpDiag || bytes.Contains(line, []byte(" tcp_diag_dump"))
			t.has.conntrack = t.has.conntrack || bytes.Contains(line, []byte(" ctnetlink_get_conntrack"))
		}
	})
	return t.has
}
