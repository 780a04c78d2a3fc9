package kernel

import (
	"errors"
	"io/fs"
)

// UnsupportedError says in a sentence what this kernel lacks. It is an errors.ErrUnsupported.
type UnsupportedError string

// Error returns the sentence.
func (e UnsupportedError) Error() string { return string(e) }

// Is lets errors.Is find errors.ErrUnsupported.
func (e UnsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }

// PermissionError says in a sentence what this process may not do. It is an fs.ErrPermission.
type PermissionError string

// Error returns the sentence.
func (e PermissionError) Error() string { return string(e) }

// Is lets errors.Is find fs.ErrPermission.
func (e PermissionError) Is(target error) bool { return target == fs.ErrPermission }
