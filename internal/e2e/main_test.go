//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fixtureEnv carries the fixture from the process that made it to the one that runs the tests.
const fixtureEnv = "PATHTRACE_E2E_FIXTURE"

// TestMain makes the engines and runs this binary once more for the tests.
func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if text := os.Getenv(fixtureEnv); text != "" {
		if err := json.Unmarshal([]byte(text), &shared); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: read fixture:", err)
			return 1
		}
		os.Unsetenv(fixtureEnv)
		return m.Run()
	}
	if flag.Lookup("test.list").Value.String() != "" {
		return m.Run()
	}
	if shared.Missing = missing(); shared.Missing != "" {
		return m.Run() // each test says why it is skipped, or fails in CI
	}
	code, err := supervise()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return code
}

// supervise makes the fixture, runs the tests in a process of their own and removes the fixture.
func supervise() (code int, err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	made := &maker{}
	defer func() { err = errors.Join(err, made.remove()) }()
	fixture, err := made.make()
	if err != nil {
		return 1, err
	}
	text, err := json.Marshal(fixture)
	if err != nil {
		return 1, err
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(cleanEnv(), fixtureEnv+"="+string(text))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // it may have ended
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 1, err
			}
			if code := cmd.ProcessState.ExitCode(); code >= 0 {
				return code, nil
			}
			return 1, fmt.Errorf("the tests ended with %s", cmd.ProcessState)
		}
	}
}

// cleanEnv is the environment without what would lead docker or pathtrace to another engine.
func cleanEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DOCKER_") && !strings.HasPrefix(v, fixtureEnv) {
			env = append(env, v)
		}
	}
	return env
}

// missing says what the tests need and do not have.
func missing() string {
	if os.Geteuid() != 0 {
		return "these tests need root"
	}
	for _, tool := range []string{"dockerd", "docker", "containerd", "runc", "iptables", "nft", "ip", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "these tests need " + tool + ": run scripts/install-test-needs.sh"
		}
	}
	return ""
}
