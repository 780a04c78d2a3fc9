package flow

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// stageID is a path.Stage as a small number.
type stageID uint8

const (
	stageNone stageID = iota
	stageSocket
	stageRoute
	stageNeighbour
	stageQdisc
	stageDevice
	stageBridge
	stageVXLAN
	stageXfrm
	stageFragment
	stageTCP
	stageUDP
	stageICMP
	stageHook       // plus the netfilter hook number
	stageBridgeHook = stageHook + 5
)

func (s stageID) public() path.Stage {
	return [...]path.Stage{
		"", path.StageSocket, path.StageRoute, path.StageNeighbour, path.StageQdisc, path.StageDevice, path.StageBridge,
		path.StageVXLAN, path.StageXfrm, path.StageFragment, path.StageTCP, path.StageUDP, path.StageICMP,
		path.StagePrerouting, path.StageInput, path.StageForward, path.StageOutput, path.StagePostrouting,
		path.StageBridgePrerouting, path.StageBridgeInput, path.StageBridgeForward, path.StageBridgeOutput, path.StageBridgePostrouting,
	}[s]
}

// actionID is a path.Action as a small number.
type actionID uint8

const (
	actionQueue actionID = iota
	actionTransmit
	actionReceive
	actionEnter
	actionLeave
	actionDNAT
	actionSNAT
	actionEncapsulate
	actionDecapsulate
	actionFragment
	actionDeliver
	actionDrop
	actionReject
	actionReset
)

func (a actionID) public() path.Action {
	return [...]path.Action{
		path.ActionQueue, path.ActionTransmit, path.ActionReceive, path.ActionEnter, path.ActionLeave, path.ActionDNAT,
		path.ActionSNAT, path.ActionEncapsulate, path.ActionDecapsulate, path.ActionFragment, path.ActionDeliver,
		path.ActionDrop, path.ActionReject, path.ActionReset,
	}[a]
}

// location is a kernel function that events name by an address in it.
type location struct {
	function string
	stage    stageID // of a drop there; stageDevice if nothing is known
	bridgeNF bool    // the continuation of a hook that br_netfilter entered
}

// names interns what many hops share. The first entry of each table is the empty one.
type names struct {
	namer      Namer
	devices    []string
	deviceIDs  map[string]uint16
	recent     [16]recentDevice // looked at before deviceIDs
	locations  []location
	locationID map[uint64]uint16
}

// recentDevice is a device that events named lately. The zero value is right: no name has index 0.
type recentDevice struct {
	name string
	id   uint16
}

const maxNames = 65535

func (n *names) init(namer Namer) {
	n.namer = namer
	n.devices = []string{""}
	n.deviceIDs = map[string]uint16{"": 0}
	n.locations = []location{{}}
	n.locationID = map[uint64]uint16{0: 0}
}

// device returns the index of a device name; 0, no name, for those beyond the table's limit.
func (n *names) device(name string) uint16 {
	if name == "" {
		return 0
	}
	// Names that are alike differ in their length or at their end.
	r := &n.recent[(len(name)+5*int(name[len(name)-1]))%len(n.recent)]
	if r.name != name {
		id := n.deviceID(name)
		*r = recentDevice{n.devices[id], id}
	}
	return r.id
}

// deviceID is device for one that was not named lately.
func (n *names) deviceID(name string) uint16 {
	if id, ok := n.deviceIDs[name]; ok {
		return id
	}
	if len(n.devices) >= maxNames {
		return 0
	}
	name = strings.Clone(name)
	n.devices = append(n.devices, name)
	id := uint16(len(n.devices) - 1)
	n.deviceIDs[name] = id
	return id
}

// location returns the index of the function that contains addr.
func (n *names) location(addr uint64) uint16 {
	if id, ok := n.locationID[addr]; ok {
		return id
	}
	if len(n.locations) >= maxNames {
		return 0
	}
	symbol := n.namer.Symbol(addr)
	n.locations = append(n.locations, location{
		function: symbol, stage: dropStage(symbol), bridgeNF: strings.HasPrefix(symbol, "br_nf_"),
	})
	id := uint16(len(n.locations) - 1)
	n.locationID[addr] = id
	return id
}

// hookStage returns the stage of a netfilter event and whether br_netfilter entered the hook for a
// bridged frame. Where the continuation has no name the state attached to the packet decides.
func (t *Tracker) hookStage(e *wire.Event) (s stageID, bridged bool) {
	if e.Has(wire.FlagBridgeNF) {
		l := &t.names.locations[t.names.location(e.Location)]
		bridged = l.bridgeNF || l.function == ""
	}
	n := stageID(min(e.NFHook, wire.NFPostrouting))
	if bridged {
		return stageBridgeHook + n, true
	}
	return stageHook + n, false
}
