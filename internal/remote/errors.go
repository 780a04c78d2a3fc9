package remote

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Error is why a host cannot be used: one sentence that begins with the host.
type Error struct {
	Host Address
	// Says is the sentence without the host; Err is what it was told from, nil if that says no more.
	Says string
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return e.Host.authority() + " " + e.Says }

// Unwrap returns what the sentence was told from.
func (e *Error) Unwrap() error { return e.Err }

// sshFailures are what ssh says, and what is said of it; %s is the command that logs in.
func sshFailures() [][2]string {
	return [][2]string{
		{"REMOTE HOST IDENTIFICATION HAS CHANGED", "has another host key than the one that is known:" +
			" find out why before you trust it, then ssh-keygen -R %h"},
		{"Host key verification failed", "has a host key that is not known here: run %s once, compare the key, and accept it"},
		{"Permission denied", "refuses the login: ssh has to get in without a password, as %s would (a key, ssh-agent)"},
		{"Too many authentication failures", "refuses the login: ssh has to get in without a password, as %s would (a key, ssh-agent)"},
		{"Could not resolve hostname", "cannot be found: its name does not resolve here"},
		{"Connection refused", "refuses the connection: no ssh server listens there"},
		{"timed out", "does not answer: ssh got no connection"},
		{"No route to host", "cannot be reached: there is no route, or it is down"},
		{"Network is unreachable", "cannot be reached: there is no route"},
		{"Connection reset", "closed the connection"},
		{"Connection closed", "closed the connection"},
		{"Broken pipe", "lost the connection"},
	}
}

// explain makes one sentence of how an ssh session ended: err is of the process, said what ssh and the
// program wrote to standard error.
func (a Address) explain(err error, said string) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("ssh is not installed here, and --host needs it: apt-get install openssh-client (%w)", err)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	replace := strings.NewReplacer("%s", a.Command(), "%h", a.Host)
	for _, f := range sshFailures() {
		if strings.Contains(said, f[0]) {
			return &Error{Host: a, Says: replace.Replace(f[1]), Err: err}
		}
	}
	if line := lastLine(said); line != "" {
		return &Error{Host: a, Says: "ended the session: " + line, Err: err}
	}
	return &Error{Host: a, Says: "ended the session without a word", Err: err}
}

// refusal is what the script's error words mean.
func (a Address) refusal(words []string) error {
	what := ""
	if len(words) > 0 {
		what = words[0]
	}
	switch what {
	case "sudo":
		user := a.User
		if len(words) > 1 {
			user = words[1]
		}
		return &Error{Host: a, Says: fmt.Sprintf("lets %s in, who is not root and may not use sudo there without a password:"+
			" log in as root, or allow it", user)}
	case "missing":
		return &Error{Host: a, Says: fmt.Sprintf("is of another architecture than this pathtrace, which is for %s:"+
			" install pathtrace of the same version there", machine())}
	case "nowhere":
		return &Error{Host: a, Says: "has no directory that holds this program and lets it run: /tmp, /var/tmp, /dev/shm" +
			" and the home directory are full, read-only or mounted noexec"}
	case "copy":
		return &Error{Host: a, Says: "did not take the program: its disk is full, or gzip is missing"}
	}
	return &Error{Host: a, Says: "said what is not understood: " + strings.Join(words, " ")}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
