// Package latency measures how long the parts of a packet's way take.
//
// A Meter takes the steps of package flow, every observation of every packet, and keeps histograms in
// place of packets: what it holds does not grow with the traffic. It does no I/O and reads no clock.
//
// # What is a sample
//
// A packet that carries data (of TCP), or any packet of UDP and ICMP. Between two neighbouring
// observations of it lies a segment; so the segments of a packet add up to the time between its first
// and its last observation, by construction. A request and the answer that acknowledges it make a round
// trip, with the application between them; own probes add the time from the write and to the read.
//
// Packets that passed the same places have the same way. The way that most round trips took is
// reported, all others are counted; so is every other sample that was left out, with why.
//
// # Own cost
//
// An observation delays the packet. Its mean cost, measured at the start, is taken out of each segment
// (of which it cannot leave less than nothing) and reported as a segment of its own, so that the sum
// stays what was measured.
//
// # Comparison
//
// The difference between two quantiles has a percentile bootstrap interval: the q-quantile of a
// resample of n samples is an order statistic, whose rank in the sample follows a Beta distribution, so
// that each resample costs one draw.
package latency
