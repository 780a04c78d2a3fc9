package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/shell"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// whereOf describes the place of an observation.
func whereOf(h *path.Hop, dir path.Direction) *path.Where {
	if h == nil {
		return nil
	}
	return &path.Where{
		Host: h.Host, Namespace: h.Namespace, Container: h.Container, Device: h.Device,
		Stage: h.Stage, Function: h.Function, Reason: h.Reason, Direction: dir,
	}
}

// command returns a shell command as it has to be typed to run in the namespace of h.
func (a *analysis) command(h *path.Hop, cmd string) string {
	if h == nil {
		return cmd
	}
	return a.commandIn(h.NetNS, h.Container, cmd)
}

// commandIn is command for a namespace given by inode number and, if it is known, container.
func (a *analysis) commandIn(ns uint32, container, cmd string) string {
	n := a.space(ns)
	if container == "" && ns != 0 {
		container = a.spaceContainer(ns)
	}
	return OnHost(n.Host, n.Reach, a.commandThere(ns, n, container, cmd))
}

// OnHost returns a shell command as it has to be typed to run on a host: reach, such as "ssh root@h2",
// runs a command line there. Without reach it says where; host is "" if there is one host only. A comment
// at the end of the command stays one.
func OnHost(host, reach, cmd string) string {
	bare, comment := shell.SplitComment(cmd)
	switch {
	case host == "":
		return cmd
	case reach != "" && comment != "":
		return reach + " " + quote(bare) + "  # " + comment
	case reach != "":
		return reach + " " + quote(bare)
	case comment != "":
		return bare + "  # on " + host + "; " + comment
	}
	return bare + "  # on " + host
}

// commandThere is commandIn for a shell on the host that the namespace is on. A comment at the end of the
// command stays its end.
func (a *analysis) commandThere(ns uint32, n *Namespace, container, cmd string) string {
	switch {
	case n.Self:
		return cmd
	case n.Path != "":
		return "nsenter --net=" + quote(n.Path) + " " + cmd
	case container != "":
		return fmt.Sprintf(`nsenter --net=/proc/"$(docker inspect -f '{{.State.Pid}}' %s)"/ns/net %s`,
			quote(container), cmd)
	case ns != 0 && len(a.f.Namespaces) > 0:
		bare, comment := shell.SplitComment(cmd)
		if comment != "" {
			comment = "; " + comment
		}
		return bare + "  # in " + a.spaceName(ns) + comment
	}
	return cmd
}

// quote is short because remedies are full of it.
func quote(word string) string { return shell.Quote(word) }

// targetContainer returns the container that h or the facts name as the target, or "".
func (a *analysis) targetContainer() string { return a.f.Target.Container }

// inTarget reports whether ns is a namespace of the target. known is false if it cannot be told: an
// address that is translated on the way belongs to whatever it is translated to, and a load balancer may lead
// to containers of other hosts, which are not known here.
func (a *analysis) inTarget(ns uint32) (in, known bool) {
	translated := a.f.Target.Container == "" && a.hasDNAT()
	if ns == 0 || len(a.f.Target.NetNS) == 0 || translated {
		return false, false
	}
	in = slices.Contains(a.f.Target.NetNS, ns)
	return in, in || !slices.ContainsFunc(a.p.NAT, func(t path.Translation) bool { return t.By == path.IPVS })
}

// spaceContainer returns the name of the container that lives in a namespace, or "".
func (a *analysis) spaceContainer(ns uint32) string {
	return strings.TrimPrefix(containerPart(a.spaceName(ns)), "container ")
}

// spaceLabel returns the name of a namespace that is not a container's, or "".
func (a *analysis) spaceLabel(ns uint32) string {
	if name := a.spaceName(ns); containerPart(name) == "" {
		return name
	}
	return a.space(ns).Name
}

func containerPart(name string) string {
	if strings.HasPrefix(name, "container ") {
		return name
	}
	return ""
}

// isForeign reports that ns is certainly not the target's.
func (a *analysis) isForeign(ns uint32) bool {
	in, known := a.inTarget(ns)
	return known && !in
}
