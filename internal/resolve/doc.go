// Package resolve looks a name up as a program somewhere else on this machine would: with the hosts
// file, the servers and the search list of a container, and from inside its network namespace. It
// knows nothing of containers; the caller says where the files and the namespace are.
package resolve
