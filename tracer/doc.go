// Package tracer follows a flow to a Docker container through the kernel and says where it ends and
// why. It is what the pathtrace command runs, for use by other Go programs.
//
// A trace is described by a Config, opened by New, and run by Run, which reports each flow with its
// path and verdict. With Config.Source, one probe is sent from there and exactly that is followed;
// without, nothing is sent and live traffic to the target is watched.
//
// Tracing needs root (or the capabilities that New's error names) and a kernel with BTF; errors.Is finds
// fs.ErrPermission or errors.ErrUnsupported behind the error where that is not given. Nothing is
// written to the host: everything is tied to file descriptors and gone when the process ends.
//
// The JSON types of pathtrace's public contract are those of package path, under their names here.
package tracer
