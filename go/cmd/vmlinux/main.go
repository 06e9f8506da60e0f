// Command pyro-vmlinux takes the kernel proper out of a compressed one, for VMMs that start nothing else.
package main

import (
	"fmt"
	"os"

	"pyro.dev/pyro/go/internal/vmlinux"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pyro-vmlinux VMLINUZ OUTPUT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run leaves a new file that is on the disk.
func run(from, to string) error {
	image, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	kernel, err := vmlinux.Extract(image)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(kernel); err != nil {
		return err
	}
	// VMMs of other users read it, whatever the umask is.
	if err := file.Chmod(0o644); err != nil {
		return err
	}
	return file.Sync()
}
