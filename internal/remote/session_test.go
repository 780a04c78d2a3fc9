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

// fakeSSH puts an ssh into the path that runs the command here, in a shell, with its files below dir.
func fakeSSH(t *testing.T, before string) (dir string) {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	text := "#!/bin/sh\nfor last; do :; done\nTMPDIR=" + dir + "; export TMPDIR\n" + before + "\nexec sh -c \"$last\"\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return dir
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
	uname := func(out string) string {
		return `d=$(mktemp -d); trap "rm -r $d" EXIT; printf '#!/bin/sh\necho ` + out + `\n' >$d/uname; chmod 700 $d/uname; PATH=$d:$PATH; ` +
			`sh -c "$last"; exit $?`
	}
	for _, c := range []struct{ name, before, want string }{
		{"cut off", `head -c 100000 | sh -c "$last"; exit $?`, "h1 did not take the program: its disk is full, or gzip is missing"},
		{"no gzip", `d=$(mktemp -d); trap "rm -r $d" EXIT; ln -s /bin/false $d/gzip; PATH=$d:$PATH; sh -c "$last"; exit $?`,
			"h1 did not take the program: its disk is full, or gzip is missing"},
		{"another system", uname("Plan9"), "h1 runs Plan9: pathtrace needs Linux"},
		{"garbage", `echo what; exit 3`, "h1 ended the session without a word"},
		{"denied", `echo "root@h1: Permission denied (publickey)." >&2; exit 255`,
			"h1 refuses the login: ssh has to get in without a password, as ssh h1 would (a key, ssh-agent)"},
		{"unknown key", `echo "Host key verification failed." >&2; exit 255`,
			"h1 has a host key that is not known here: run ssh h1 once, compare the key, and accept it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fakeSSH(t, c.before)
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
