package shell

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestQuote: a shell takes what is quoted for the one word it was.
func TestQuote(t *testing.T) {
	for _, tt := range []struct{ word, want string }{
		{"br-app", "br-app"},
		{"/run/netns/a_b.c:d@e%f+g=h,i", "/run/netns/a_b.c:d@e%f+g=h,i"},
		{"", "''"},
		{"two words", "'two words'"},
		{"it's", `'it'\''s'`},
		{"$(reboot)", "'$(reboot)'"},
		{"a;b", "'a;b'"},
		{"a\nb", "'a\nb'"},
		{"grün", "'grün'"},
	} {
		if got := Quote(tt.word); got != tt.want {
			t.Errorf("Quote(%q) = %s, want %s", tt.word, got, tt.want)
		}
		out, err := exec.Command("sh", "-c", "printf %s "+Quote(tt.word)).Output()
		if err != nil || string(out) != tt.word {
			t.Errorf("the shell makes %q (%v) of %s, want %q", out, err, Quote(tt.word), tt.word)
		}
	}
}

func TestIsCommand(t *testing.T) {
	for text, want := range map[string]bool{
		"docker start web":                       true,
		"nsenter -t 4711 -n ip link set eth0 up": true,
		"docker":                                 true,
		"start a service on port 81 in web":      false,
		"recreate web with -p 8081:80":           false,
		"dockers of the world":                   false,
		"":                                       false,
		"let the service listen on 0.0.0.0 instead": false,
	} {
		if got := IsCommand(text); got != want {
			t.Errorf("IsCommand(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestSplitComment(t *testing.T) {
	for _, tt := range []struct{ text, command, comment string }{
		{"docker start web", "docker start web", ""},
		{"docker restart web  # breaks its connections", "docker restart web", "breaks its connections"},
		{`iptables -D X -m comment --comment "a # b" -j DROP  # all sources`, `iptables -D X -m comment --comment "a # b" -j DROP`, "all sources"},
		{`ssh h 'echo it'\''s # 1' # 2`, `ssh h 'echo it'\''s # 1'`, "2"},
		{"echo a#b", "echo a#b", ""},
		{`echo \" # c`, `echo \"`, "c"},
		{"echo 'open # end", "echo 'open # end", ""},
		{"", "", ""},
	} {
		if command, comment := SplitComment(tt.text); command != tt.command || comment != tt.comment {
			t.Errorf("SplitComment(%q) = %q, %q, want %q, %q", tt.text, command, comment, tt.command, tt.comment)
		}
	}
}

// TestFold: what is folded is not too wide, and means the same to a shell.
func TestFold(t *testing.T) {
	for _, tt := range []struct {
		command string
		width   int
		want    []string
	}{
		{"docker start web", 20, []string{"docker start web"}},
		{"docker start web", 16, []string{"docker start web"}},
		{"docker start web", 15, []string{`docker start \`, "web"}},
		{"docker start web", 14, []string{`docker start \`, "web"}},
		{"docker start web", 3, []string{`docker \`, `start \`, "web"}},
		{"ssh h 'two words' x", 12, []string{`ssh h \`, `'two words' \`, "x"}},
		{`a "b \" c" d`, 9, []string{`a \`, `"b \" c" \`, "d"}},
		{"averyveryverylongword", 4, []string{"averyveryverylongword"}},
		{"", 4, []string{""}},
		{`nft 'add rule ip t c oifname != "a b" accept'`, 100, []string{`nft 'add rule ip t c oifname != "a b" accept'`}},
		{`nft 'add rule ip t c oifname != "a b" accept'`, 32,
			[]string{`nft 'add rule ip t c oifname' \`, `'!= "a b" accept'`}},
		{`nsenter -t 1 -n nft 'add rule ip t c tcp dport 80 accept'`, 30,
			[]string{`nsenter -t 1 -n nft \`, `'add rule ip t c tcp' \`, `'dport 80 accept'`}},
		{`nft 'add rule ip t c comment "it'\''s so"'`, 20, []string{`nft \`, `'add rule ip t c comment "it'\''s so"'`}},
	} {
		if got := Fold(tt.command, tt.width); !slices.Equal(got, tt.want) {
			t.Errorf("Fold(%q, %d) = %q, want %q", tt.command, tt.width, got, tt.want)
		}
	}
	const command = `printf '%s|' iptables -I DOCKER-USER -m comment --comment "it's a # b" 'x  y' -j RETURN`
	want, err := exec.Command("sh", "-c", command).Output()
	if err != nil {
		t.Fatal(err)
	}
	for width := 1; width < 100; width += 7 {
		folded := strings.Join(Fold(command, width), "\n           ")
		if got, err := exec.Command("sh", "-c", folded).Output(); err != nil || string(got) != string(want) {
			t.Errorf("width %d: a shell makes %q (%v) of it, want %q:\n%s", width, got, err, want, folded)
		}
	}
}
