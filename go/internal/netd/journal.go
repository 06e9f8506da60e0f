// This file owns the journal: a JSON line for each decision. What repeats within a second is counted, not repeated.
package netd

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

const (
	// quiet is how long the same decision is only counted after it was written.
	quiet = time.Second
	// maxCounted is how many decisions are counted at once; more are written one by one.
	maxCounted = 1024
	// maxText is the longest text of a guest's in a line, bytes.
	maxText = 256
)

// Decision is one line.
type Decision struct {
	Time     string `json:"time"`
	Protocol string `json:"protocol"`
	Name     string `json:"name,omitempty"`
	Address  string `json:"address,omitempty"`
	Port     uint16 `json:"port,omitempty"`
	Verdict  string `json:"verdict"`
	Reason   string `json:"reason"`
	// Code and Secret are the broker's: what happened in a word, and the name of the secret it is about.
	Code   string `json:"code,omitempty"`
	Secret string `json:"secret,omitempty"`
	// Count is how often it was made, 1 where it is not there.
	Count int `json:"count,omitempty"`
}

// Journal writes decisions. Its methods may be called at the same time.
type Journal struct {
	mutex   sync.Mutex
	out     io.Writer
	now     func() time.Time
	counted map[Decision]*repeats
}

type repeats struct {
	since time.Time
	more  int
}

// NewJournal returns one that writes to out, whose errors are nobody's: a journal that cannot be written stops nothing.
func NewJournal(out io.Writer) *Journal {
	return &Journal{out: out, now: time.Now, counted: map[Decision]*repeats{}}
}

// Note writes a decision, whose time and count are the journal's.
func (j *Journal) Note(d Decision) {
	d.Time, d.Count = "", 0
	d.Name, d.Reason = clip(d.Name), clip(d.Reason)
	j.mutex.Lock()
	defer j.mutex.Unlock()
	now := j.now()
	if known := j.counted[d]; known != nil && now.Sub(known.since) < quiet {
		known.more++
		return
	}
	j.flush(now)
	if len(j.counted) < maxCounted {
		j.counted[d] = &repeats{since: now}
	}
	j.write(d, now, 0)
}

// Flush writes the counts of what has not been repeated for a while. It is called every now and then.
func (j *Journal) Flush() {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	j.flush(j.now())
}

func (j *Journal) flush(now time.Time) {
	for d, known := range j.counted {
		if now.Sub(known.since) < quiet {
			continue
		}
		delete(j.counted, d)
		if known.more > 0 {
			j.write(d, now, known.more)
		}
	}
}

func (j *Journal) write(d Decision, now time.Time, count int) {
	d.Time, d.Count = now.UTC().Format("2006-01-02T15:04:05.000Z"), count
	line, err := json.Marshal(d)
	if err != nil {
		return
	}
	_, _ = j.out.Write(append(line, '\n'))
}

func clip(text string) string {
	if len(text) > maxText {
		return text[:maxText] + "..."
	}
	return text
}
