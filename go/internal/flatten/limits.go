// This file owns what an image may ask of this host at most, and the errors that say it asked for more or is broken.
package flatten

import "fmt"

// Limits bound what a hostile image can make this host do.
type Limits struct {
	// Entries of all layers together, and directories that are made because no entry describes them.
	Entries int
	// UnpackedBytes of all layers together, headers included.
	UnpackedBytes int64
	// MetadataBytes is the memory that the tree takes: its nodes, names, link targets and extended attributes.
	MetadataBytes int64
	// PathBytes of the result: deep down, each name is written with a path that is much longer.
	PathBytes int64
	// Steps through directories, which a small layer can ask for without end.
	Steps int
}

// DefaultLimits leave room for the largest images that are in use.
var DefaultLimits = Limits{
	Entries:       1_000_000,
	UnpackedBytes: 32 << 30,
	MetadataBytes: 512 << 20,
	PathBytes:     1 << 30,
	Steps:         500_000_000,
}

// What the kernel takes, and what squashfs can hold.
const (
	maxNameBytes = 255
	maxPathBytes = 4095
	maxSymlinks  = 40
	maxOwners    = 65_535
	maxMajor     = 1<<12 - 1
	maxMinor     = 1<<20 - 1
	// squashfs has one bit more, but sqfstar ignores a larger time for the root, and files later than that are set to it.
	maxTime       = 1<<31 - 2
	maxID         = 1<<32 - 2
	maxXattrBytes = 64 << 10
)

// LimitError says which limit an image is beyond.
type LimitError struct{ What string }

func (e *LimitError) Error() string { return "the image has more than " + e.What }

// MalformedError says what no extraction could have made sense of.
type MalformedError struct {
	// Entry is the name as it stands in the layer, empty when it is about the archive as a whole.
	Entry string
	Why   string
}

func (e *MalformedError) Error() string {
	if e.Entry == "" {
		return e.Why
	}
	return fmt.Sprintf("%.200q: %s", e.Entry, e.Why)
}

// UnsupportedError says what has a meaning, but not here.
type UnsupportedError struct{ Entry, What string }

func (e *UnsupportedError) Error() string { return fmt.Sprintf("%.200q %s", e.Entry, e.What) }
