package remote

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain is also the program that is copied: it unlinks itself, says so, and repeats what it hears.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(agent(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func agent(args []string) int {
	if len(args) == 2 && args[0] == "--unlink" {
		if err := Unlink(args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Println("hello")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if in.Text() == "die" {
			fmt.Fprintln(os.Stderr, "dying")
			return 7
		}
		fmt.Println("heard", in.Text())
	}
	return 0
}

// fakeSSH puts an ssh into the path that runs the command here, in a shell, with its files below dir. The
// tools are what the host has in place of some of its own.
func fakeSSH(t *testing.T, before string, tools ...tool) (dir string) {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	ssh := tool{"ssh", "for last; do :; done\nTMPDIR=" + dir + "; export TMPDIR\n" + before + "\nexec sh -c \"$last\""}
	for _, tool := range append(tools, ssh) {
		if err := os.WriteFile(filepath.Join(bin, tool.name), []byte("#!/bin/sh\n"+tool.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return dir
}

// tool is a program of a host, as a shell script.
type tool struct{ name, script string }

// mounted is an ssh to a host with memory file systems in these places. What is left in them is listed in a
// file, which is there only if something is.
func mounted(options, places string) string {
	return "list=$TMPDIR/list; unshare --mount sh -c 'TMPDIR=/tmp HOME=/mnt; for m in " + places + "; do mount -t tmpfs -o " + options +
		" none $m || exit 9; done; sh -c \"$0\"; for m in " + places + "; do echo $m/* | grep -F pathtrace.; done >&3' \"$last\" 3>$list; " +
		"code=$?; test -s $list || rm $list; exit $code"
}

func left(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func address(t *testing.T, text string) Address {
	t.Helper()
	a, err := ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, or the script asks for sudo")
	}
}

// TestSession: the program is copied, runs, is gone from the file system, and is talked to.
func TestSession(t *testing.T) {
	needsRoot(t)
	dir := fakeSSH(t, "echo Welcome to h1")
	s, err := Dial(t.Context(), address(t, "ssh://root@h1"), &Program{})
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(s)
	if line, _ := out.ReadString('\n'); line != "hello\n" {
		t.Errorf("the program said %q", line)
	}
	if files := left(t, dir); len(files) > 0 {
		t.Errorf("while it runs, there are %v", files)
	}
	fmt.Fprintln(s, "one")
	if line, _ := out.ReadString('\n'); line != "heard one\n" {
		t.Errorf("the program answered %q", line)
	}
	s.Close()
	if _, err := out.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
	if s.Reach() != "ssh root@h1" {
		t.Errorf("reached by %q", s.Reach())
	}
}

// TestDies: a program that ends by itself is named with what it said.
func TestDies(t *testing.T) {
	needsRoot(t)
	fakeSSH(t, "")
	s, err := Dial(t.Context(), address(t, "ssh://h1"), &Program{})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(s, "die")
	_, err = io.ReadAll(s)
	if err == nil || err.Error() != "h1 ended the session: dying" {
		t.Errorf("error %v", err)
	}
}

// TestNothingRemains: a copy that is cut off, a machine of another kind, and impatience leave no file.
func TestNothingRemains(t *testing.T) {
	needsRoot(t)
	const everywhere, noSpace, noPrograms = "/tmp /var/tmp /dev/shm /mnt", "h1 did not take the program: its disk is full, or gzip is missing",
		"h1 has no directory that holds this program and lets it run: /tmp, /var/tmp, /dev/shm and the home directory are full," +
			" read-only or mounted noexec"
	user := []tool{{"id", `test "$1" = -u && echo 1000 || echo me`}, {"sudo", "echo sudo: a password is required >&2; exit 1"}}
	for _, c := range []struct {
		name, before string
		tools        []tool
		want         string
	}{
		{"cut off", `head -c 100000 | sh -c "$last"; exit $?`, nil, noSpace},
		{"no gzip", "", []tool{{"gzip", "exit 127"}}, noSpace},
		{"programs may not run", mounted("noexec", everywhere), nil, noPrograms},
		{"full", mounted("size=256k", everywhere), nil, noPrograms},
		{"read-only", mounted("ro", everywhere), nil, noPrograms},
		{"another system", "", []tool{{"uname", "echo Plan9"}}, "h1 runs Plan9: pathtrace needs Linux"},
		{"another architecture", "PATH=${PATH%%:*}:/usr/bin:/bin", []tool{{"uname", `test "$1" = -s && echo Linux || echo riscv64`}},
			"h1 is of another architecture than this pathtrace, which is for " + machine() + ": install pathtrace of the same version there"},
		{"no sudo", "", user, "h1 lets me in, who is not root and may not use sudo there without a password: log in as root, or allow it"},
		{"garbage", `echo what; exit 3`, nil, "h1 ended the session without a word"},
		{"denied", `echo "root@h1: Permission denied (publickey)." >&2; exit 255`, nil,
			"h1 refuses the login: ssh has to get in without a password, as ssh h1 would (a key, ssh-agent)"},
		{"unknown key", `echo "Host key verification failed." >&2; exit 255`, nil,
			"h1 has a host key that is not known here: run ssh h1 once, compare the key, and accept it"},
		{"refused", `echo "ssh: connect to host h1 port 22: Connection refused" >&2; exit 255`, nil,
			"h1 refuses the connection: no ssh server listens there"},
		{"silent", `echo "ssh: connect to host h1 port 22: Connection timed out" >&2; exit 255`, nil,
			"h1 does not answer: ssh got no connection"},
		{"no such name", `echo "ssh: Could not resolve hostname h1: Name or service not known" >&2; exit 255`, nil,
			"h1 cannot be found: its name does not resolve here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fakeSSH(t, c.before, c.tools...)
			_, err := Dial(t.Context(), address(t, "ssh://h1"), &Program{})
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if files := left(t, dir); len(files) > 0 {
				t.Errorf("what remains: %v", files)
			}
		})
	}
}

// TestOtherPlaces: a directory that is full or lets nothing run gives way to the next, and a host of another
// architecture runs its own pathtrace.
func TestOtherPlaces(t *testing.T) {
	needsRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, before string
		tools        []tool
	}{
		{"programs may not run", mounted("noexec", "/tmp /var/tmp"), nil},
		{"full", mounted("size=256k", "/tmp /var/tmp"), nil},
		{"no df", "", []tool{{"df", "exit 127"}}},
		{"another architecture", "", []tool{{"uname", `test "$1" = -s && echo Linux || echo riscv64`}, {"pathtrace", "exec " + self + ` "$@"`}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fakeSSH(t, c.before, c.tools...)
			s, err := Dial(t.Context(), address(t, "ssh://h1"), &Program{})
			if err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(io.LimitReader(s, int64(len("hello\n"))))
			if err != nil || string(out) != "hello\n" {
				t.Errorf("the program said %q, %v", out, err)
			}
			s.Close()
			if files := left(t, dir); len(files) > 0 {
				t.Errorf("what remains: %v", files)
			}
		})
	}
}

// TestInterrupted: a Dial that is given up ends at once.
func TestInterrupted(t *testing.T) {
	fakeSSH(t, "exec sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := Dial(ctx, address(t, "ssh://h1"), &Program{}); err == nil {
		t.Error("no error")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestNoSSH: the sentence says what to install.
func TestNoSSH(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Dial(t.Context(), address(t, "ssh://h1"), &Program{})
	if err == nil || !strings.Contains(err.Error(), "ssh is not installed here") {
		t.Errorf("error %v", err)
	}
}

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]string{
		"ssh://h1":             "ssh h1",
		"ssh://me@h1:2222":     "ssh -p 2222 me@h1",
		"ssh://[fd00::1]:22":   "ssh -p 22 fd00::1",
		"h1":                   "",
		"tcp://h1":             "",
		"ssh://":               "",
		"ssh://me:secret@h1":   "",
		"ssh://h1/var/run":     "",
		"ssh://-oProxyCommand": "",
	} {
		a, err := ParseAddress(text)
		if got := a.Command(); err == nil && got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
}

// TestScript: the login shell sees one word in quotation marks, and no history expansion.
func TestScript(t *testing.T) {
	inner, ok := strings.CutPrefix(command(), "exec sh -c '")
	if !ok || !strings.HasSuffix(inner, "'") || strings.ContainsAny(strings.TrimSuffix(inner, "'"), "'!\n") {
		t.Errorf("not safe for every shell: %s", command())
	}
	if !bytes.Contains([]byte(inner), []byte(wordBegin)) {
		t.Error("the script does not say when it begins")
	}
}
