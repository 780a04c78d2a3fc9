package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// flowFlags say which flow a command follows, and for how long. Not every command has all of them.
type flowFlags struct {
	to, from    string
	proto       string
	dockerHosts []string
	timeout     time.Duration
	duration    time.Duration
	count       int
	ipv6        bool
}

// config turns the flags into a trace.
func (f *flowFlags) config() (tracer.Config, error) {
	cfg := tracer.Config{
		Target: f.to, Source: f.from, Proto: path.Proto(strings.ToLower(f.proto)),
		DockerHosts: f.dockerHosts, PreferIPv6: f.ipv6, Version: version,
		Timeout: f.timeout, Duration: f.duration, Count: f.count,
	}
	switch {
	case f.to == "":
		return cfg, usageError{errors.New("--to is missing: say where to, as in --to web:80")}
	case f.timeout <= 0:
		return cfg, usageError{fmt.Errorf("--timeout is %v: give a positive time, as in --timeout 2s", f.timeout)}
	case f.duration < 0:
		return cfg, usageError{fmt.Errorf("--duration is %v: give a positive time, as in --duration 30s", f.duration)}
	case f.count < 0:
		return cfg, usageError{fmt.Errorf("--count is %d: give a positive number", f.count)}
	}
	switch cfg.Proto {
	case "", path.TCP, path.UDP, path.ICMP:
		return cfg, nil
	}
	return cfg, usageError{fmt.Errorf("unknown protocol %q: --proto takes tcp, udp or icmp", f.proto)}
}

// watching is what watches the live traffic to the same target.
func (f flowFlags) watching(duration time.Duration) (tracer.Config, error) {
	f.from, f.duration = "", duration
	return f.config()
}

// registerEngines adds the flag of a command that asks Docker engines.
func registerEngines(flags *pflag.FlagSet, hosts *[]string) {
	flags.StringArrayVar(hosts, "docker-host", nil,
		"`ADDRESS` of a Docker engine, may be repeated\n(default DOCKER_HOST, then the usual socket)")
}
