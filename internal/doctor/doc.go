// Package doctor concludes from plain facts about a host what of its Docker networking is broken, what
// will break and what is exposed.
//
// The package is pure: it does no I/O. Every check is a function over the facts of one host; a check
// that lacks a fact stays silent, because a false alarm is worse than none. One file holds one family
// of checks, and the table in check.go lists them, worst first.
package doctor
