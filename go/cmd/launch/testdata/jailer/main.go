// Command jailer stands in for Firecracker's in tests: it tells what it was given and what it sees, and then waits.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	seen := map[string]any{"args": os.Args[1:], "environment": os.Environ(), "uid": os.Getuid()}
	var base string
	for i, arg := range os.Args[:len(os.Args)-1] {
		if arg == "--chroot-base-dir" {
			base = os.Args[i+1]
		}
	}
	list := func(directory string) []string {
		entries, err := os.ReadDir(directory)
		if err != nil {
			return []string{err.Error()}
		}
		names := []string{}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return names
	}
	root := filepath.Join(base, "firecracker", "vm", "root")
	seen["top"], seen["descriptors"], seen["root"] = list("/"), list("/proc/self/fd"), list(root)
	write := map[string]string{}
	for _, name := range list(root) {
		file, err := os.OpenFile(filepath.Join(root, name), os.O_WRONLY, 0)
		if err != nil {
			write[name] = err.Error()
			continue
		}
		write[name] = "yes"
		file.Close()
	}
	seen["write"] = write
	// What a jailer does, and what a file system without devices does not let it.
	device := filepath.Join(root, "null")
	if err := syscall.Mknod(device, syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		seen["device"] = err.Error()
	} else if _, err := os.ReadFile(device); err != nil {
		seen["device"] = err.Error()
	} else {
		seen["device"] = "works"
	}
	status, _ := os.ReadFile("/proc/self/status")
	seen["status"] = string(status)
	text, err := json.Marshal(seen)
	fmt.Println(string(text), err)
	time.Sleep(time.Hour)
}
