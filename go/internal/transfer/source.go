// This file owns the way of an archive's bytes from the calls that bring them to the reader of the archive.
package transfer

import "io"

const blockBytes = 512

// source reads what is put into pieces, to its end when that is closed. One reader.
type source struct {
	pieces <-chan []byte
	// stop ends reading with an error.
	stop     <-chan struct{}
	rest     []byte
	position int64
	// mark is where the next header begins; used says that something other than zeros was read behind it.
	mark int64
	used bool
	// ended: all there is was read. err: it was stopped.
	ended bool
	err   error
}

func (s *source) Read(into []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if s.ended {
			return 0, io.EOF
		}
		select {
		case piece, ok := <-s.pieces:
			s.rest, s.ended = piece, !ok
		case <-s.stop:
			s.err = ErrAborted
		}
	}
	n := copy(into, s.rest)
	s.rest = s.rest[n:]
	if !s.used {
		for _, b := range into[min(max(s.mark-s.position, 0), int64(n)):n] {
			if b != 0 {
				s.used = true
				break
			}
		}
	}
	s.position += int64(n)
	return n, nil
}

// next is called between two entries, before the header is read.
func (s *source) next() {
	s.mark = (s.position + blockBytes - 1) &^ (blockBytes - 1)
	s.used = false
}

// cut says, where the archive's reader found the end, whether it is one: behind the last entry there is nothing but zeros,
// in whole blocks. GNU tar takes an archive without the two blocks of zeros at its end, and so does this.
func (s *source) cut() bool { return s.used || s.ended && s.position%blockBytes != 0 }

// drain reads what stands behind the end of the archive.
func (s *source) drain() error {
	s.rest = nil
	for !s.ended {
		select {
		case _, ok := <-s.pieces:
			s.ended = !ok
		case <-s.stop:
			return ErrAborted
		}
	}
	return nil
}
