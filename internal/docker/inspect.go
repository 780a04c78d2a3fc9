package docker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/client"
	"golang.org/x/sync/errgroup"
)

// inspection is the part of the answer to the inspection of a container that is used (Engine API,
// ContainerInspect). With hundreds of containers, taking apart the rest of it would take longer than
// everything else at a start. Any part may be missing.
type inspection struct {
	ID, Name        string
	State           *containerState
	HostConfig      *hostConfig
	Config          *struct{ Labels map[string]string }
	NetworkSettings *struct {
		SandboxKey string
		Ports      portMap
		Networks   map[string]*endpointSettings
	}
}

// containerState is the part of State that is used.
type containerState struct {
	Status                State
	Error                 string
	Pid, ExitCode         int
	Paused, OOMKilled     bool
	StartedAt, FinishedAt string
}

// hostConfig is the part of HostConfig that is used.
type hostConfig struct {
	NetworkMode   string
	RestartPolicy struct{ Name string }
	Links         []string
	PortBindings  portMap
}

// portMap are bindings by port, as in "80/tcp".
type portMap map[string][]struct{ HostIP, HostPort string }

// bindings lists them one by one.
func (m portMap) bindings() []binding {
	var out []binding
	for key, list := range m {
		port, proto, ok := strings.Cut(key, "/")
		if !ok {
			proto = "tcp"
		}
		for _, b := range list {
			out = append(out, binding{port, proto, b.HostIP, b.HostPort})
		}
	}
	return out
}

// endpointSettings is the part of EndpointSettings that is used.
type endpointSettings struct {
	NetworkID, IPAddress, GlobalIPv6Address string
	Gateway, IPv6Gateway, MacAddress        string
	GwPriority                              int
	Aliases, DNSNames                       []string
}

// errNoContainer is what is said of a container that does not exist.
var errNoContainer = errors.New("no such container")

// asker asks an engine for what the client of docker/docker has no function for, and about its containers:
// that client's ContainerInspect, which takes apart the whole answer and wraps each request for tracing,
// takes 1.6 times as long for 500 containers, of the clock as of the processors, with connections kept too.
type asker struct {
	http    *http.Client
	base    string // of paths of Docker's API, with its version
	buffers sync.Pool
}

func newAsker(cli *client.Client) *asker {
	return &asker{base: "/v" + cli.ClientVersion(), http: &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return cli.Dialer()(ctx) },
		MaxIdleConnsPerHost: parallel, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}}}
}

func (a *asker) close() { a.http.CloseIdleConnections() }

// do asks for path; the caller closes the answer's body. The transport leads to the engine, whatever host
// the address names.
func (a *asker) do(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+path, nil)
	if err != nil {
		return nil, err
	}
	return a.http.Do(req)
}

// get asks for path and puts the answer into out.
func (a *asker) get(ctx context.Context, path string, out any) error {
	res, err := a.do(ctx, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	buf, _ := a.buffers.Get().(*bytes.Buffer)
	if buf == nil {
		buf = &bytes.Buffer{}
	}
	defer a.buffers.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(io.LimitReader(res.Body, maxAnswer)); err != nil {
		return err
	}
	switch res.StatusCode {
	case http.StatusOK:
		return json.Unmarshal(buf.Bytes(), out)
	case http.StatusNotFound:
		return errNoContainer
	}
	var said struct{ Message string }
	_ = json.Unmarshal(buf.Bytes(), &said) // the status says enough
	return fmt.Errorf("the engine said: %s: %s", res.Status, cmp.Or(said.Message, "no reason"))
}

// maxAnswer bounds an answer, in bytes: a list of ten thousand containers is some 20 MB.
const maxAnswer = 1 << 28

// list asks for the IDs of all containers, running or not.
func (a *asker) list(ctx context.Context) ([]string, error) {
	var list []struct{ ID string }
	if err := a.get(ctx, a.base+"/containers/json?all=1", &list); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	ids := make([]string, len(list))
	for i, c := range list {
		ids[i] = c.ID
	}
	return ids, nil
}

// inspect asks for containers, some at a time. One that vanished meanwhile is nil.
func (a *asker) inspect(ctx context.Context, engine int, ids []string) ([]*rawContainer, error) {
	out := make([]*rawContainer, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, id := range ids {
		group.Go(func() error {
			var in inspection
			err := a.get(ctx, a.base+"/containers/"+url.PathEscape(id)+"/json", &in)
			if errors.Is(err, errNoContainer) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("inspect container %s: %w", shortID(id), err)
			}
			out[i] = newRawContainer(engine, in)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

func newRawContainer(engine int, in inspection) *rawContainer {
	raw := &rawContainer{Container: convertContainer(engine, in)}
	if in.NetworkSettings != nil {
		raw.sandbox = in.NetworkSettings.SandboxKey
	}
	return raw
}
