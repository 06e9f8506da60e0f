// Package redact puts something harmless in the place of secret values in bytes that pass by, however they are cut. Its
// rules are those of src/engine/secrets, without what only a terminal writes.
//
// This file owns the values, and a stream: what is surely no value goes through, a value becomes its mark, and what may
// be the beginning of one waits for what comes behind it.
package redact

import (
	"bytes"
	"sort"
)

const (
	// telling is how much of a value, and no less, counts as the value where nothing can come behind it: symbols.
	telling = 6
	// quietSymbols is the most of a value that goes through because a stream is quiet; quietOfShort of a short one.
	quietSymbols = 3
	quietOfShort = 1
	shortValue   = 12
)

// Value is one that is not to pass, and what stands for it.
type Value struct {
	Value []byte
	Mark  []byte
}

// Redactor knows values. It may be used at the same time.
type Redactor struct {
	values []Value
	forms  []form
	quiet  int
}

// New makes one. Line ends at a value's end are no part of it; an empty value is left out.
func New(values []Value) *Redactor {
	r := &Redactor{quiet: quietSymbols}
	var bare [][]byte
	for _, one := range values {
		one.Value = Bare(one.Value)
		if len(one.Value) == 0 {
			continue
		}
		if len(one.Value) < shortValue {
			r.quiet = quietOfShort
		}
		r.values, bare = append(r.values, one), append(bare, one.Value)
	}
	r.forms = formsOf(bare)
	return r
}

// Bare is a value without the line ends at its end.
func Bare(value []byte) []byte { return bytes.TrimRight(value, "\r\n") }

// Bytes is whole data without values, and whether there was one.
func (r *Redactor) Bytes(data []byte) ([]byte, bool) {
	s := r.Stream()
	out := append(s.Push(data), s.End()...)
	return out, s.redacted
}

// Text is the same of a text.
func (r *Redactor) Text(text string) string {
	if out, redacted := r.Bytes([]byte(text)); redacted {
		return string(out)
	}
	return text
}

// Stream is one stream. Its methods are called one at a time.
type Stream struct {
	of    *Redactor
	lanes []*lane
	// kept are undecided bytes, the first of which is at from.
	kept           []byte
	from, position int64
	spans          []span
	redacted       bool
}

// Stream begins one.
func (r *Redactor) Stream() *Stream {
	s := &Stream{of: r}
	for _, one := range r.forms {
		s.lanes = append(s.lanes, &lane{form: one, found: func(found span) { s.spans = append(s.spans, found) }})
	}
	return s
}

// Held is how many bytes wait.
func (s *Stream) Held() int { return int(s.position - s.from) }

// Push takes the next bytes and returns what is decided by them.
func (s *Stream) Push(data []byte) []byte {
	for _, l := range s.lanes {
		l.push(data, s.position)
	}
	s.kept = append(s.kept, data...)
	s.position += int64(len(data))
	upTo := s.position
	for _, l := range s.lanes {
		if from, held := l.heldFrom(); held {
			upTo = min(upTo, from)
		}
	}
	return s.decide(upTo)
}

// Quiet is called when nothing has come for a while: the few bytes that begin a value by chance go through, and it is still
// known when the rest of it comes.
func (s *Stream) Quiet() []byte {
	for _, l := range s.lanes {
		if l.depth() > s.of.quiet {
			return nil
		}
	}
	return s.decide(s.position)
}

// End is called when nothing comes behind what has come. The greater part of a value counts as one.
func (s *Stream) End() []byte {
	for _, l := range s.lanes {
		if from, held := l.heldFrom(); held && l.depth() >= telling {
			s.spans = append(s.spans, span{from, s.position, l.automaton.owner[l.state]})
		}
		l.reset()
	}
	return s.decide(s.position)
}

// decide lets go of everything before a place, or before the value that this place is in.
func (s *Stream) decide(upTo int64) []byte {
	merged := s.merge()
	s.spans = s.spans[:0]
	most := upTo
	for _, one := range merged {
		if one.end > upTo {
			most = min(most, one.start)
			s.spans = append(s.spans, one)
		}
	}
	var out []byte
	for _, one := range merged {
		if one.end > upTo {
			break
		}
		out = append(out, s.take(one.start)...)
		s.take(one.end)
		out = append(out, s.of.values[one.owner].Mark...)
		s.redacted = true
	}
	return append(out, s.take(most)...)
}

// merge is the spans in order; those that overlap as one, under the name of the longest.
func (s *Stream) merge() []span {
	var sorted []span
	for _, one := range s.spans {
		if one.start = max(one.start, s.from); one.end > one.start {
			sorted = append(sorted, one)
		}
	}
	sort.Slice(sorted, func(i, j int) bool {
		if sorted[i].start != sorted[j].start {
			return sorted[i].start < sorted[j].start
		}
		return sorted[i].end > sorted[j].end
	})
	var merged []span
	for _, one := range sorted {
		if len(merged) == 0 || one.start >= merged[len(merged)-1].end {
			merged = append(merged, one)
			continue
		}
		last := &merged[len(merged)-1]
		if one.end-one.start > last.end-last.start {
			last.owner = one.owner
		}
		last.end = max(last.end, one.end)
	}
	return merged
}

// take removes the undecided bytes before a place and returns them.
func (s *Stream) take(upTo int64) []byte {
	count := upTo - s.from
	if count <= 0 {
		return nil
	}
	taken := s.kept[:count:count]
	s.kept = s.kept[count:]
	s.from = upTo
	return taken
}
