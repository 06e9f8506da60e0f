// This file owns what a run is for: the command with its output, and the files that are brought back afterwards.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// command is what the host wants run.
type command struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Cwd  string   `json:"cwd"`
}

const (
	chunkBytes = 64 << 10
	// drainTime is how long output is still awaited that something left behind by the command keeps open.
	drainTime = 3 * time.Second
)

// runCommand runs it to its end and tells the host its output and its status.
func runCommand(host *channel, table *children, asked *command) error {
	if len(asked.Argv) == 0 {
		return errors.New("there is no command")
	}
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer nothing.Close()
	return stream(host, table, spawn{argv: asked.Argv, env: asked.Env, cwd: asked.Cwd, files: []*os.File{nothing}}, kindStdout)
}

// fetch sends path, a file or a directory, as an archive with its holes.
func fetch(host *channel, table *children, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path", path)
	}
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer nothing.Close()
	argv := []string{"tar", "--create", "--sparse", "--directory", filepath.Dir(path), "--", filepath.Base(path)}
	return stream(host, table, spawn{argv: argv, env: os.Environ(), cwd: "/", files: []*os.File{nothing}}, kindArchive)
}

// stream starts a process whose stdout goes to the host as frames of a kind, and whose stderr as stderr.
func stream(host *channel, table *children, what spawn, stdoutKind byte) error {
	drained := make(chan struct{}, 2)
	for _, kind := range []byte{stdoutKind, kindStderr} {
		reader, writer, err := os.Pipe()
		if err != nil {
			return err
		}
		defer writer.Close()
		what.files = append(what.files, writer)
		go func() {
			defer reader.Close()
			pump(host, kind, reader)
			drained <- struct{}{}
		}()
	}
	ended, err := table.start(what)
	if err != nil {
		return err
	}
	for _, writer := range what.files[1:] {
		_ = writer.Close()
	}
	status := <-ended
	late := time.After(drainTime)
	for range 2 {
		select {
		case <-drained:
		case <-late:
			return host.send(kindDone, []byte(strconv.Itoa(status)))
		}
	}
	return host.send(kindDone, []byte(strconv.Itoa(status)))
}

func pump(host *channel, kind byte, from io.Reader) {
	buffer := make([]byte, chunkBytes)
	for {
		n, err := from.Read(buffer)
		if n > 0 && host.send(kind, buffer[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}
