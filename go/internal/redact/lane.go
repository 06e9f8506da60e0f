// This file owns one way in which a value may be written: bytes of a stream become the symbols of an automaton, whose
// matches are told as places of the stream.
package redact

const (
	// mostBreaks is the longest run of bytes that say nothing inside a value.
	mostBreaks   = 64
	fewestPlaces = 64
)

// span is a value that stands in the stream from start to before end.
type span struct {
	start, end int64
	owner      int32
}

type lane struct {
	form
	found func(span)
	state int32
	// places are where the last symbols began, in a ring whose length is a power of two.
	places     []int64
	count      int
	breaks     int
	sequence   []byte
	sequenceAt int64
}

// depth is how much of a value has been seen, symbols.
func (l *lane) depth() int {
	matched := int(l.automaton.depth[l.state])
	if len(l.sequence) > 0 {
		matched++
	}
	return matched
}

// heldFrom is where what may be the beginning of a value begins; false when there is nothing such.
func (l *lane) heldFrom() (int64, bool) {
	if l.state != 0 {
		return l.placeOf(int(l.automaton.depth[l.state])), true
	}
	return l.sequenceAt, len(l.sequence) > 0
}

// push takes data whose first byte has this position.
func (l *lane) push(data []byte, position int64) {
	a := l.alphabet
	for at, c := range data {
		// Most bytes are no part of anything, and of those that are most have another behind them than a value has.
		if l.state == 0 && len(l.sequence) == 0 && a.kinds[c] != isEscape {
			symbol := a.symbols[c]
			if l.automaton.first[symbol] == 0 {
				continue
			}
			if at+1 < len(data) && a.kinds[data[at+1]] == 0 && !l.automaton.pairs[int(symbol)<<8|int(a.symbols[data[at+1]])] {
				continue
			}
		}
		l.take(c, position+int64(at))
	}
}

// reset forgets what was seen so far.
func (l *lane) reset() { l.state, l.breaks, l.sequence = 0, 0, nil }

func (l *lane) take(c byte, place int64) {
	a := l.alphabet
	kind := a.kinds[c]
	if len(l.sequence) > 0 || kind == isEscape {
		l.takeEscaped(c, place)
		return
	}
	if l.state != 0 && (kind == isBreak || kind == behindBreak && l.breaks > 0) {
		l.pass()
		return
	}
	l.feed(a.symbols[c], place, place+1)
}

func (l *lane) takeEscaped(c byte, place int64) {
	a := l.alphabet
	if len(l.sequence) == 0 {
		l.sequenceAt = place
	}
	l.sequence = append(l.sequence, c)
	symbol := a.decode(l.sequence)
	if symbol == unfinished {
		return
	}
	begun, from := l.sequence, l.sequenceAt
	l.sequence = nil
	switch {
	case symbol >= 0 && l.state != 0 && a.kinds[symbol] == isBreak:
		l.pass()
	case symbol >= 0:
		l.feed(a.symbols[symbol], from, place+1)
	default:
		// It stands for itself, and its last byte may begin another.
		for i, one := range begun[:len(begun)-1] {
			l.feed(a.symbols[one], from+int64(i), from+int64(i)+1)
		}
		l.take(c, place)
	}
}

// pass goes over something that says nothing.
func (l *lane) pass() {
	if l.breaks++; l.breaks > mostBreaks {
		l.reset()
	}
}

func (l *lane) feed(symbol byte, start, end int64) {
	a := l.automaton
	if int(a.depth[l.state])+1 >= len(l.places) {
		l.grow()
	}
	l.breaks = 0
	l.places[l.count&(len(l.places)-1)] = start
	l.count++
	state := a.step(l.state, symbol)
	if length := a.match[state]; length > 0 {
		l.found(span{l.placeOf(int(length)), end, a.owner[state]})
	}
	l.state = a.settled(state)
}

func (l *lane) placeOf(symbolsBack int) int64 {
	return l.places[(l.count-symbolsBack)&(len(l.places)-1)]
}

func (l *lane) grow() {
	old := l.places
	l.places = make([]int64, max(fewestPlaces, 2*len(old)))
	for back := 1; back <= min(len(old), l.count); back++ {
		l.places[(l.count-back)&(len(l.places)-1)] = old[(l.count-back)&(len(old)-1)]
	}
}
