// This file finds many patterns in one pass (Aho and Corasick's automaton): a byte costs the same however many patterns
// there are and however long they are.
package redact

// pattern is a value in the symbols of one form.
type pattern struct {
	symbols []byte
	owner   int
}

type automaton struct {
	// first is the state behind each symbol at the root; 0 where no pattern begins so.
	first [256]int32
	// pairs says, for two symbols, whether a pattern begins with them.
	pairs []bool
	// depth is how many symbols of a pattern have been seen, match the length of the longest that ends here, 0 for none.
	depth, owner, match           []int32
	child, sibling, symbol, fails []int32
}

func newAutomaton(patterns []pattern) *automaton {
	most := 1
	for _, one := range patterns {
		most += len(one.symbols)
	}
	a := &automaton{pairs: make([]bool, 1<<16)}
	for _, table := range []*[]int32{&a.depth, &a.owner, &a.match, &a.child, &a.sibling, &a.symbol} {
		*table = make([]int32, 1, most)
	}
	for _, one := range patterns {
		a.add(one)
	}
	a.link()
	return a
}

func (a *automaton) add(one pattern) {
	state := int32(0)
	for _, symbol := range one.symbols {
		next := a.below(state, symbol)
		if next == 0 {
			next = int32(len(a.depth))
			a.depth = append(a.depth, a.depth[state]+1)
			a.owner = append(a.owner, int32(one.owner))
			a.match = append(a.match, 0)
			a.child = append(a.child, 0)
			a.symbol = append(a.symbol, int32(symbol))
			if state == 0 {
				a.first[symbol] = next
				a.sibling = append(a.sibling, 0)
			} else {
				a.sibling = append(a.sibling, a.child[state])
				a.child[state] = next
			}
		}
		state = next
	}
	if state == 0 {
		return
	}
	second := byte(0)
	if len(one.symbols) > 1 {
		second = one.symbols[1]
	}
	a.pairs[int(one.symbols[0])<<8|int(second)] = true
	a.match[state], a.owner[state] = int32(len(one.symbols)), int32(one.owner)
}

// below is the child of a state, 0 for none.
func (a *automaton) below(state int32, symbol byte) int32 {
	if state == 0 {
		return a.first[symbol]
	}
	child := a.child[state]
	for child != 0 && a.symbol[child] != int32(symbol) {
		child = a.sibling[child]
	}
	return child
}

// step is the state behind a symbol.
func (a *automaton) step(state int32, symbol byte) int32 {
	for ; state != 0; state = a.fails[state] {
		if next := a.below(state, symbol); next != 0 {
			return next
		}
	}
	return a.first[symbol]
}

// settled is the same state, or where no pattern goes on from there, the longest of its ends that one does.
func (a *automaton) settled(state int32) int32 {
	for state != 0 && a.child[state] == 0 {
		state = a.fails[state]
	}
	return state
}

// link leads from each state to the longest of its ends that is a beginning too, those near the root first.
func (a *automaton) link() {
	a.fails = make([]int32, len(a.depth))
	queue := make([]int32, 0, len(a.depth))
	for _, state := range a.first {
		if state != 0 {
			queue = append(queue, state)
		}
	}
	for at := 0; at < len(queue); at++ {
		state := queue[at]
		for child := a.child[state]; child != 0; child = a.sibling[child] {
			fail := a.step(a.fails[state], byte(a.symbol[child]))
			a.fails[child] = fail
			// A pattern that ends here is longer than any that ends there.
			if a.match[child] == 0 {
				a.match[child] = a.match[fail]
			}
			queue = append(queue, child)
		}
	}
}
