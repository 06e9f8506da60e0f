// This file owns what is told on stdout while it goes on.
package main

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// tellEvery is how often bytes are told of: often enough to be seen to move.
const tellEvery = 200 * time.Millisecond

type report struct {
	mutex sync.Mutex
	to    *json.Encoder
	told  time.Time
	stage string
	done  int64
	total int64
}

func newReport(to io.Writer) *report {
	encoder := json.NewEncoder(to)
	// Lines are for a program, and a line may not be long.
	encoder.SetEscapeHTML(false)
	return &report{to: encoder}
}

// begin starts a stage of `total` bytes; 0 where that is not known.
func (r *report) begin(stage string, total int64) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.stage, r.done, r.total = stage, 0, total
	r.tell()
}

func (r *report) add(bytes int) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.done += int64(bytes)
	if time.Since(r.told) >= tellEvery {
		r.tell()
	}
}

func (r *report) tell() {
	r.told = time.Now()
	_ = r.to.Encode(map[string]any{"type": "progress", "stage": r.stage, "bytes": r.done, "total_bytes": r.total})
}

func (r *report) last(line map[string]any) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	_ = r.to.Encode(line)
}
