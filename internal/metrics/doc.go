// Package metrics gives histograms of latency to Prometheus: the same ones that the report is made of,
// as native histograms, through Prometheus' own client library.
package metrics
