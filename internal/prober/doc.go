// Package prober sends the one probe that --from asks for, from inside a network namespace and
// without a second process: a TCP connect, a UDP datagram or an ICMP echo.
//
// It has two phases. Open creates and binds the socket, so that the exact 5-tuple is known before
// anything is sent and the filter in the kernel can be set to it; Send sends and waits for what comes
// back. The socket keeps its namespace alive until Close.
package prober
