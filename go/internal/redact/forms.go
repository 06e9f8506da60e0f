// This file owns the forms in which a value may be written: as it is, in base64, percent-encoded, or with a backslash
// before what a text in quotes cannot hold. They are those of src/engine/secrets/forms.ts.
package redact

import (
	"bytes"
	"encoding/base64"
	"regexp"
)

// What a byte is beside a symbol.
const (
	// isBreak may stand inside a value and says nothing; behindBreak the same behind a break.
	isBreak     = 1
	behindBreak = 2
	// isEscape begins a sequence.
	isEscape = 3
)

// What a sequence that has begun means, where it is no symbol.
const (
	unfinished = -1
	noSequence = -2
)

const longestCode = 6

// alphabet is how bytes become symbols.
type alphabet struct {
	symbols [256]byte
	kinds   [256]byte
	// decode is what a sequence stands for, nil where there are none.
	decode func(sequence []byte) int
}

// form is an alphabet and the patterns that all values make in it.
type form struct {
	alphabet  *alphabet
	automaton *automaton
}

var (
	plainText   = newAlphabet(map[byte]byte{'\r': isBreak}, nil)
	base64Text  = newBase64()
	percentText = newPercent()
	backslashed = newAlphabet(map[byte]byte{'\r': isBreak, '\\': isEscape}, decodeBackslash)
	// needsBackslash is what makes a text in quotes write a value in another way.
	needsBackslash = regexp.MustCompile(`["'\\/<>&\x00-\x1f\x7f]`)
)

func newAlphabet(kinds map[byte]byte, decode func([]byte) int) *alphabet {
	a := &alphabet{decode: decode}
	for i := range a.symbols {
		a.symbols[i] = byte(i)
	}
	for b, kind := range kinds {
		a.kinds[b] = kind
	}
	return a
}

// newBase64 is both alphabets as one; whatever is no digit is a symbol that no pattern has. Lines may be broken, and indented.
func newBase64() *alphabet {
	a := newAlphabet(map[byte]byte{'\r': isBreak, '\n': isBreak, ' ': behindBreak, '\t': behindBreak}, nil)
	for i := range a.symbols {
		c := byte(i)
		switch {
		case c == '-':
			a.symbols[i] = '+'
		case c == '_':
			a.symbols[i] = '/'
		case !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/'):
			a.symbols[i] = 0
		}
	}
	return a
}

// newPercent has a form's plus as its space: the two are one symbol, in values too.
func newPercent() *alphabet {
	a := newAlphabet(map[byte]byte{'\r': isBreak, '%': isEscape}, decodePercent)
	a.symbols['+'] = ' '
	return a
}

func decodePercent(sequence []byte) int {
	if len(sequence) == 1 {
		return unfinished
	}
	if digit(sequence[len(sequence)-1]) < 0 {
		return noSequence
	}
	if len(sequence) == 2 {
		return unfinished
	}
	return digit(sequence[1])*16 + digit(sequence[2])
}

func decodeBackslash(sequence []byte) int {
	if len(sequence) == 1 {
		return unfinished
	}
	second := sequence[1]
	if second != 'u' {
		if at := bytes.IndexByte([]byte("btnfr"), second); at >= 0 {
			return int("\b\t\n\f\r"[at])
		}
		if bytes.IndexByte([]byte(`"'\/`), second) >= 0 {
			return int(second)
		}
		return noSequence
	}
	if len(sequence) == 2 {
		return unfinished
	}
	if digit(sequence[len(sequence)-1]) < 0 {
		return noSequence
	}
	if len(sequence) < longestCode {
		return unfinished
	}
	code := 0
	for _, c := range sequence[2:] {
		code = code*16 + digit(c)
	}
	if code >= 0x80 {
		return noSequence
	}
	return code
}

func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// formsOf are the forms of values, which are without the line ends at their ends.
func formsOf(values [][]byte) []form {
	var plain, escaped, percent, digits []pattern
	for owner, value := range values {
		bare := bytes.ReplaceAll(value, []byte{'\r'}, nil)
		plain = append(plain, pattern{bare, owner})
		if needsBackslash.Match(bare) {
			escaped = append(escaped, pattern{bare, owner})
		}
		percent = append(percent, pattern{percentText.of(bare), owner})
		for before := range 3 {
			digits = append(digits, pattern{base64Text.of(base64Of(value, before)), owner})
		}
	}
	var forms []form
	add := func(a *alphabet, patterns []pattern) {
		if len(patterns) > 0 {
			forms = append(forms, form{a, newAutomaton(patterns)})
		}
	}
	add(plainText, plain)
	add(base64Text, digits)
	add(percentText, percent)
	add(backslashed, escaped)
	return forms
}

func (a *alphabet) of(data []byte) []byte {
	symbols := make([]byte, len(data))
	for i, c := range data {
		symbols[i] = a.symbols[c]
	}
	return symbols
}

// base64Of is the digits that a value alone determines where so many bytes come before it in a group of three.
func base64Of(value []byte, before int) []byte {
	text := base64.StdEncoding.EncodeToString(append(make([]byte, before, before+len(value)), value...))
	return []byte(text[(before*8+5)/6 : (before+len(value))*8/6])
}
