// This file owns removing what was staged. Whoever is root in the workspace may have put anything there meanwhile: os.RemoveAll
// would open a fifo in a directory's place, and wait.
package transfer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/listing"
)

// removeDepth is how deep a tree may be: each level takes a descriptor.
const removeDepth = 4200

// removeTree removes a name and all that is below it; a name that is not there is removed already.
func removeTree(at int, name string, depth int) error {
	err := unix.Unlinkat(at, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if depth > removeDepth {
		return fmt.Errorf("deeper than %d directories", removeDepth)
	}
	fd, openErr := openDirectory(at, name)
	if openErr != nil {
		return fmt.Errorf("remove %.300q: %w", name, errors.Join(err, openErr))
	}
	defer unix.Close(fd)
	for range passes {
		err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("remove %.300q: %w", name, err)
		}
		var below []string
		err = listing.Each(fd, func(name string, isDirectory bool) error {
			if isDirectory {
				below = append(below, name)
				return nil
			}
			if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove %.300q: %w", name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, name := range below {
			if err := removeTree(fd, name, depth+1); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("remove %.300q: somebody adds to it", name)
}
