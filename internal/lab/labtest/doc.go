// Package labtest helps tests that need namespaces: it skips where they are not allowed, closes what
// was built, and tells when the kernel has really freed a namespace.
package labtest
