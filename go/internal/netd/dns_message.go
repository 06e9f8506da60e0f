// This file owns the messages between netd and the host's name servers.
package netd

import (
	"crypto/rand"
	"encoding/binary"
	"errors"

	"golang.org/x/net/dns/dnsmessage"
)

var errOther = errors.New("not the answer to this question")

// newQuery is a question of netd's own: nothing of the guest's message but name, type and class is sent on.
func newQuery(asked dnsmessage.Question) ([]byte, uint16, error) {
	var random [2]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, 0, err
	}
	id := binary.BigEndian.Uint16(random[:])
	message := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions:   []dnsmessage.Question{asked},
		Additionals: []dnsmessage.Resource{question{}.extension()},
	}
	packed, err := message.Pack()
	return packed, id, err
}

// parseAnswer reads an answer to a question. Errors: errOther, those of a message that is none.
func parseAnswer(message []byte, id uint16, asked dnsmessage.Question) (dnsmessage.Message, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil {
		return dnsmessage.Message{}, err
	}
	questions, err := parser.AllQuestions()
	if err != nil {
		return dnsmessage.Message{}, err
	}
	if !header.Response || header.ID != id || len(questions) != 1 || questions[0].Type != asked.Type ||
		questions[0].Class != asked.Class || lower(questions[0].Name) != lower(asked.Name) {
		return dnsmessage.Message{}, errOther
	}
	answer := dnsmessage.Message{Header: header, Questions: questions}
	if header.Truncated {
		return answer, nil
	}
	answer.Answers, err = parser.AllAnswers()
	return answer, err
}
