// Package netns runs code inside a network namespace of this machine.
//
// A namespace belongs to a thread, and Go moves goroutines between threads; everything here therefore
// happens on a locked thread that is given back only after it has returned to its first namespace.
package netns
