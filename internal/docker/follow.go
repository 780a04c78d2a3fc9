package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/client"
)

// errEventsEnded is a stream that the engine closed.
var errEventsEnded = errors.New("the engine closed the stream of events")

// follow applies events until the stream ends.
func (e *engine) follow(ctx context.Context, cli *client.Client, about *asker, messages <-chan events.Message, errs <-chan error) error {
	for {
		var batch dirty
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-errs:
			return errors.Join(errEventsEnded, err)
		case m := <-messages:
			batch.add(m)
		}
		for more := true; more; {
			select {
			case m := <-messages:
				batch.add(m)
			default:
				more = false
			}
		}
		if err := e.refresh(ctx, cli, about, batch); err != nil {
			return err
		}
	}
}

// dirty is what events said to read again.
type dirty struct {
	containers []string
	networks   bool
}

// add notes what an event is about. Events of programs run in a container and of health checks
// change nothing here.
func (d *dirty) add(m events.Message) {
	id := m.Actor.ID
	if m.Type == events.NetworkEventType {
		id = m.Actor.Attributes["container"]
		d.networks = d.networks || id == ""
	} else if !matters(m.Action) {
		return
	}
	if id != "" && !slices.Contains(d.containers, id) {
		d.containers = append(d.containers, id)
	}
}

// matters tells whether a container has other properties of interest after an event.
func matters(action events.Action) bool {
	switch action {
	case events.ActionCreate, events.ActionStart, events.ActionRestart, events.ActionStop,
		events.ActionDie, events.ActionPause, events.ActionUnPause, events.ActionRename,
		events.ActionDestroy, events.ActionUpdate:
		return true
	}
	return false
}

// refresh reads what a batch of events made stale.
func (e *engine) refresh(ctx context.Context, cli *client.Client, about *asker, batch dirty) error {
	if len(batch.containers) == 0 && !batch.networks {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	raw, err := about.inspect(ctx, e.index, batch.containers)
	if err != nil {
		return err
	}
	var nets map[string]*Network
	if batch.networks {
		if nets, err = e.networkList(ctx, cli, about, e.info.Podman); err != nil {
			return fmt.Errorf("list networks: %w", err)
		}
	}
	e.all.mu.Lock()
	defer e.all.mu.Unlock()
	if batch.networks {
		e.networks = nets
	}
	for i, c := range raw {
		if c == nil {
			e.remove(batch.containers[i])
			continue
		}
		e.store(c)
	}
	e.all.signal()
	return nil
}
