// Package e2e holds the end-to-end tests: the pathtrace binary on real Docker engines.
//
// The tests need root and dockerd. They start engines of their own, with data, sockets and network
// namespaces of their own, and leave an engine that runs on the machine alone. The test binary runs
// itself once more: the outer process makes the engines and removes everything at the end, the inner
// one runs the tests, so that nothing stays behind if a test panics or runs out of time.
//
//	outside (10.213.x.1, a named namespace) -- eth0 host1 (10.213.x.11): engine 1
//	                                        -- eth0 host2 (10.213.x.12): engine 2
//
// Further hosts are for engines of other kinds, which the tests of outages start: without userland
// proxy, with iptables-legacy, Docker 26 and Docker 29 with both of its firewall backends
// (scripts/engine26.sh and scripts/engine29.sh get them; without them those tests are skipped, or fail
// in CI).
//
// Tests that only touch containers and rules of their own run in parallel, on engine 1. Those that
// change what others need (sysctls, Docker's rules, the daemon) do not.
//
// Run them with `make e2e`; the build tag is e2e.
package e2e
