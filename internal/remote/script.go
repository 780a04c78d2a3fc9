package remote

import "strings"

// Words that the script says, each on a line of its own, before the program takes over its output.
const (
	wordReady = "pathtrace-ready" // kernel, machine, user ID, what precedes the program: "sudo -n" or nothing
	wordError = "pathtrace-error" // what failed, see errors.go
	wordBegin = "pathtrace-begin" // the program's output follows
)

// script prepares the host and runs the program: the bytes of a gzip stream that follow their number and the
// kilobytes that they unpack to, or, if the number is 0, the one that is installed. It is for any POSIX
// shell, and has no quotation marks that the login shell, whichever it is, would see.
//
// A directory may be mounted noexec, so a small script is tried first, or have less free than the kilobytes
// that the program needs, as df tells. Where sudo is needed it must not ask. The traps make the EXIT trap
// run after signals, too.
const script = `umask 077; d=;
trap "test -z \"\$d\" || rm -rf \"\$d\"" EXIT; trap "exit 129" HUP; trap "exit 130" INT; trap "exit 141" PIPE; trap "exit 143" TERM;
s=; if test "$(id -u)" -ne 0; then
  if sudo -n true 2>/dev/null; then s="sudo -n"; else echo "ERROR sudo $(id -un)"; exit 1; fi;
fi;
echo "READY $(uname -s) $(uname -m) $(id -u) $s";
read -r size need || exit 1;
if test "$size" = 0; then
  p=$(command -v pathtrace) || { echo "ERROR missing"; exit 1; };
  echo BEGIN; $s "$p" agent; exit $?;
fi;
for b in "$TMPDIR" /tmp /var/tmp /dev/shm "$HOME"; do
  test -n "$b" || continue;
  d=$(mktemp -d "$b/pathtrace.XXXXXXXX" 2>/dev/null) || { d=; continue; };
  set -- $(df -Pk "$d" 2>/dev/null | tail -n 1);
  if test $# -eq 6 && test "$4" -lt "$need"; then :;
  elif { printf "\043\041/bin/sh\nexit 0\n" >"$d/pathtrace" && chmod 700 "$d/pathtrace" && "$d/pathtrace"; } 2>/dev/null; then break; fi;
  rm -rf "$d"; d=;
done;
test -n "$d" || { echo "ERROR nowhere"; exit 1; };
head -c "$size" | gzip -dc >"$d/pathtrace" || { echo "ERROR copy"; exit 1; };
echo BEGIN; $s "$d/pathtrace" agent --unlink "$d"`

// command is the script as one argument of ssh.
func command() string {
	s := strings.NewReplacer("READY", wordReady, "ERROR", wordError, "BEGIN", wordBegin, "\n", " ").Replace(script)
	return "exec sh -c '" + s + "'"
}
