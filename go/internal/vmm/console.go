// This file owns console.log: what a VMM itself prints, bounded, so that a hostile one cannot fill the disk with it.

package vmm

import (
	"fmt"
	"io"
	"os"
)

const (
	consoleHead = 128 << 10
	consoleTail = 64 << 10
	consoleMax  = 256 << 10
)

// console keeps the head and the tail of what is written to it in a file of at most consoleMax bytes. It holds the
// file open: the VMM may replace the name, but not what is written to.
type console struct {
	file *os.File
	size int64
	lost int64
	// marked is the length of the line between head and tail that tells what was lost.
	marked int64
}

// Write never fails: a console that cannot be kept must not stop the VMM.
func (c *console) Write(data []byte) (int, error) {
	length := len(data)
	for len(data) > 0 {
		if c.size == consoleMax {
			c.cut()
		}
		part := data[:min(int64(len(data)), consoleMax-c.size)]
		if _, err := c.file.WriteAt(part, c.size); err != nil {
			return length, nil
		}
		c.size += int64(len(part))
		data = data[len(part):]
	}
	return length, nil
}

// cut leaves the head, a line that says how much is missing, and the tail.
func (c *console) cut() {
	tail := make([]byte, consoleTail)
	if _, err := c.file.ReadAt(tail, consoleMax-consoleTail); err != nil {
		tail = nil
	}
	c.lost += consoleMax - consoleHead - c.marked - int64(len(tail))
	mark := fmt.Sprintf("\n[%d bytes left out]\n", c.lost)
	c.marked = int64(len(mark))
	rest := append([]byte(mark), tail...)
	c.size = consoleHead
	if err := c.file.Truncate(c.size); err == nil {
		if _, err := c.file.WriteAt(rest, c.size); err == nil {
			c.size += int64(len(rest))
		}
	}
}

// tailText is the end of the console, for an error message.
func (c *console) tailText(limit int64) string {
	from := max(0, c.size-limit)
	text, err := io.ReadAll(io.NewSectionReader(c.file, from, c.size-from))
	if err != nil {
		return ""
	}
	return string(text)
}
