// Package remote runs this program on other hosts through the system's ssh, as DOCKER_HOST=ssh:// does:
// the user's keys, agent, configuration and known hosts apply.
//
// Nothing has to be installed there beforehand. One ssh session per host runs a shell script (script.go)
// that makes a directory which only its user can read, takes the program from standard input, and starts
// it with standard input and output as its line to here. The program unlinks itself as soon as it runs,
// so that nothing remains however it ends, and the script removes the directory where it comes to no
// start. The program has to end when its input ends: that is what a dying connection looks like there.
//
// ssh asks nothing here (BatchMode), as several hosts would ask at once: a key that is not known and a
// password that is missing are errors that say what to do.
package remote
