// This file owns reading and writing archives so that faults of an archive are told from those of what it is read from
// or written to: archive/tar returns both, and has errors without a name.
package flatten

import (
	"archive/tar"
	"errors"
	"io"
)

// archiveReader reads a tar. Its errors are a *MalformedError, or what its source returned.
type archiveReader struct {
	tar    *tar.Reader
	source *reader
}

func openArchive(from io.Reader) *archiveReader {
	source := &reader{from: from}
	return &archiveReader{tar.NewReader(source), source}
}

func (a *archiveReader) next() (*tar.Header, error) {
	header, err := a.tar.Next()
	if err == nil || err == io.EOF {
		return header, err
	}
	return nil, a.fault(err)
}

// Read reads the content of the entry.
func (a *archiveReader) Read(into []byte) (int, error) {
	n, err := a.tar.Read(into)
	if err != nil && err != io.EOF {
		err = a.fault(err)
	}
	return n, err
}

func (a *archiveReader) fault(err error) error {
	if a.source.err != nil {
		return a.source.err
	}
	return &MalformedError{"", "it is no whole tar archive: " + err.Error()}
}

// reader remembers its error.
type reader struct {
	from io.Reader
	err  error
}

func (r *reader) Read(into []byte) (int, error) {
	n, err := r.from.Read(into)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// archiveWriter writes a tar. What cannot be said in one is a *MalformedError of the entry; other errors are those of
// what it is written to.
type archiveWriter struct {
	tar  *tar.Writer
	sink *writer
}

func newArchive(to io.Writer) *archiveWriter {
	sink := &writer{to: to}
	return &archiveWriter{tar.NewWriter(sink), sink}
}

func (a *archiveWriter) header(header *tar.Header) error {
	err := a.tar.WriteHeader(header)
	switch {
	case err == nil:
		return nil
	case a.sink.err != nil:
		return a.sink.err
	case errors.Is(err, tar.ErrFieldTooLong):
		return &MalformedError{header.Name, "has more attributes than fit into a tar"}
	}
	return &MalformedError{header.Name, "cannot be written into a tar: " + err.Error()}
}

// writer remembers its error.
type writer struct {
	to  io.Writer
	err error
}

func (w *writer) Write(bytes []byte) (int, error) {
	n, err := w.to.Write(bytes)
	if err != nil {
		w.err = err
	}
	return n, err
}

// limitedReader fails when more was read, by all that share `read`, than may be.
type limitedReader struct {
	from  io.Reader
	read  *int64
	limit int64
}

func (r *limitedReader) Read(into []byte) (int, error) {
	n, err := r.from.Read(into)
	if *r.read += int64(n); *r.read > r.limit {
		return 0, limitError(r.limit>>20, "MiB unpacked")
	}
	return n, err
}
