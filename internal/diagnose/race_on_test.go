//go:build race

package diagnose_test

// raced tells that the race detector is in, with which more is allocated.
const raced = true
