// Package docker keeps a live view of the containers and networks of one or more Docker engines on
// this kernel: names, addresses, published ports, Compose and Swarm labels, and the network
// namespaces they are in.
//
// An engine that is absent, may not be read or dies is never an error: what is wrong is said once in
// a sentence, what was known stays known, and the connection is retried in the background. It is the
// only package that uses docker/docker/client.
package docker
