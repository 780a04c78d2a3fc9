package topo

import "github.com/pathtrace/pathtrace/internal/netns"

// InNamespace runs fn on an operating-system thread that is inside the namespace.
func (t *Topology) InNamespace(inode uint32, fn func() error) error {
	f, _, err := t.open(inode)
	if err != nil {
		return err
	}
	defer f.Close()
	return netns.Do(f, fn)
}
