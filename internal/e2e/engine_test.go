//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// image is the name of the image that all containers run.
const image = "pt"

// startDaemon starts dockerd in the host's namespace and waits until it answers.
func (h *host) startDaemon() error {
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		return err
	}
	config := filepath.Join(h.Dir, "config.json")
	if err := os.WriteFile(config, []byte("{}"), 0o644); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(h.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(h.tool("dockerd"), append([]string{
		"--data-root", filepath.Join(h.Dir, "root"), "--exec-root", filepath.Join(h.Dir, "exec"),
		"--pidfile", filepath.Join(h.Dir, "pid"), "-H", "unix://" + h.Socket, "--config-file", config,
	}, h.Args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = h.env(), log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := startIn(h.NetNS, cmd); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.Now().Add(time.Minute)
	for h.docker("version") != nil {
		select {
		case err := <-ended:
			return fmt.Errorf("dockerd ended: %w\n%s", err, tail(log.Name()))
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("dockerd does not answer\n%s", tail(log.Name()))
		}
	}
	return nil
}

// tool is the program that the host's engine would run by that name.
func (h *host) tool(name string) string {
	if path := filepath.Join(h.Tools, name); h.Tools != "" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return name
}

// env is the environment of the host's engine.
func (h *host) env() []string {
	if h.Tools == "" {
		return cleanEnv()
	}
	return append(cleanEnv(), "PATH="+h.Tools+":"+os.Getenv("PATH"))
}

// pid is that of dockerd, 0 if it is not running.
func (h *host) pid() int {
	text, err := os.ReadFile(filepath.Join(h.Dir, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !alive(pid) {
		return 0
	}
	return pid
}

// stopDaemon ends dockerd and waits until it has ended.
func (h *host) stopDaemon() error {
	pid := h.pid()
	if pid == 0 {
		return nil
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end dockerd %d: %w", pid, err)
	}
	if !eventually(20*time.Second, func() bool { return !alive(pid) }) {
		return fmt.Errorf("dockerd %d did not end", pid)
	}
	return nil
}

// removeContainers removes what is left, so that the engine can end cleanly.
func (h *host) removeContainers() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", "-H", "unix://"+h.Socket, "ps", "-aq").Output()
	if ids := strings.Fields(string(out)); err == nil && len(ids) > 0 {
		_ = exec.CommandContext(ctx, "docker", append([]string{"-H", "unix://" + h.Socket, "rm", "-f"}, ids...)...).Run()
	}
}

// docker runs the engine's client.
func (h *host) docker(args ...string) error {
	_, err := h.dockerOutput(args...)
	return err
}

func (h *host) dockerOutput(args ...string) (string, error) {
	cmd := exec.Command("docker", append([]string{"-H", "unix://" + h.Socket}, args...)...)
	cmd.Env = cleanEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// importImage makes the image of one program.
func (h *host) importImage(program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "bin/ptserver", Mode: 0o755, Size: int64(len(content))}); err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	cmd := exec.Command("docker", "-H", "unix://"+h.Socket, "import", "-c", `ENTRYPOINT ["/bin/ptserver"]`, "-", image)
	cmd.Env, cmd.Stdin = cleanEnv(), &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import image: %w: %s", err, out)
	}
	return nil
}

// startIn starts a command in a named namespace.
func startIn(name string, cmd *exec.Cmd) error {
	ns, err := netns.Open(filepath.Join("/run/netns", name))
	if err != nil {
		return err
	}
	defer ns.Close()
	return netns.Do(ns, cmd.Start)
}

// alive tells whether a process runs; one that has ended and was not waited for does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// killStrays ends every process that was started with a path below dir, and their children: engines,
// shims, containers, tests' commands.
func killStrays(dir string) error {
	strays := func() []int {
		var list []int
		entries, _ := filepath.Glob("/proc/[0-9]*")
		for _, entry := range entries {
			pid, err := strconv.Atoi(filepath.Base(entry))
			text, readErr := os.ReadFile(filepath.Join(entry, "cmdline"))
			if err == nil && readErr == nil && pid != os.Getpid() && bytes.Contains(text, []byte(dir+"/")) {
				list = append(list, pid)
			}
		}
		return list
	}
	list := strays()
	for _, pid := range list {
		for _, child := range children(pid) {
			_ = unix.Kill(child, unix.SIGKILL) // it may have ended
		}
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if !eventually(10*time.Second, func() bool { return len(strays()) == 0 }) {
		return fmt.Errorf("processes %v do not end", strays())
	}
	return nil
}

// children lists the direct children of a process.
func children(pid int) []int {
	var list []int
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				list = append(list, child)
			}
		}
	}
	return list
}

// unmountBelow removes the mounts of engines that ended without doing so.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // what was mounted last goes first
		if f := strings.Fields(lines[i]); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("unmount %s: %w", f[4], err)
			}
		}
	}
	return nil
}

// eventually waits until ok, and reports whether it came to that in time.
func eventually(limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func tail(file string) string {
	text, _ := os.ReadFile(file)
	return string(text[max(0, len(text)-4000):])
}
