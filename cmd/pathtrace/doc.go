// Command pathtrace follows a packet to a Docker container and says where it ends and why.
//
// It only parses flags and prints; package tracer does the work.
package main
