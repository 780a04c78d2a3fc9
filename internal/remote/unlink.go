package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Unlink removes the running program and the directory that the script made for it: what runs needs no
// name any more.
func Unlink(dir string) error {
	file := filepath.Join(dir, "pathtrace")
	for _, name := range []string{file, dir} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the copied program: %w", err)
		}
	}
	return nil
}
