package target

import (
	"context"
	"slices"

	"github.com/pathtrace/pathtrace/internal/docker"
)

// Source resolves text, which may have no port. Errors as for Target, and *NotRunningError.
func (n *Names) Source(ctx context.Context, text string) (Source, error) {
	r, err := parse(text)
	if err != nil {
		return Source{}, err
	}
	if r.portText != "" {
		return Source{}, usage("%q has a port, which is for the target: write --from %s", text, r.label())
	}
	if r.scheme != "" {
		return Source{}, usage("%q has a protocol, which is for the target: write --from %s", text, r.label())
	}
	w := n.world()
	t, err := n.find(ctx, w, r)
	if err != nil {
		return Source{}, err
	}
	out := Source{Text: text, Label: r.label(), Kind: t.kind, Engine: t.engine}
	if len(t.asked) > 0 {
		if out.Bind = t.asked[0]; len(t.netns) == 0 {
			return Source{}, &UnknownError{Name: text, Known: w.known(), Reason: "no network namespace on this kernel has the address " + out.Bind.String()}
		}
	}
	if len(t.containers) > 0 {
		if out.Container, err = w.onlyOne(r, t); err != nil {
			return Source{}, err
		}
		out.NetNS, out.NetNSPath = out.Container.NetNS, out.Container.NetNSPath
	} else {
		out.NetNS = t.netns[0]
		out.NetNSPath = w.pathOf(out.NetNS)
	}
	out.Host = out.NetNS == w.topology.Self() || w.engineOf(out.NetNS) >= 0
	if out.Host && out.Engine < 0 {
		out.Engine = w.engineOf(out.NetNS)
	}
	return out, nil
}

// onlyOne takes the container of a source, which sends from one place.
func (w *world) onlyOne(r reference, t thing) (*docker.Container, error) {
	if len(t.containers) > 1 {
		e := &AmbiguousError{Name: r.label()}
		for _, c := range t.containers {
			e.Candidates = append(e.Candidates, Candidate{What: "container " + c.Name, Use: w.uniqueName(c)})
		}
		return nil, e
	}
	c := t.containers[0]
	if !c.Runs() || c.NetNS == 0 {
		return nil, &NotRunningError{Container: c}
	}
	return c, nil
}

// pathOf returns a path that opens a namespace.
func (w *world) pathOf(inode uint32) string {
	if ns, ok := w.topology.Namespace(inode); ok && ns.Path != "" {
		return ns.Path
	}
	i := slices.IndexFunc(w.engines, func(e docker.Engine) bool { return e.NetNS == inode })
	if i < 0 {
		return ""
	}
	return w.engines[i].NetNSPath
}
