package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

const size = 5*BlockBytes + 4096

// pattern is memory with a full block, a part of one, a written zero block and a last short block.
func pattern() []byte {
	content := make([]byte, size)
	for i := range BlockBytes {
		content[BlockBytes+i] = byte(i*7 + 1)
	}
	content[3*BlockBytes+5000] = 9
	content[size-1] = 8
	return content
}

// wantDigest is the digest by its definition, from the whole content.
func wantDigest(content []byte) (string, uint64) {
	sum, data := sha256.New(), uint64(0)
	for offset := 0; offset < len(content); offset += BlockBytes {
		block := content[offset:min(offset+BlockBytes, len(content))]
		if bytes.Count(block, []byte{0}) == len(block) {
			continue
		}
		var head [8]byte
		binary.BigEndian.PutUint64(head[:], uint64(offset))
		sum.Write(head[:])
		sum.Write(block)
		data += uint64(len(block))
	}
	return hex.EncodeToString(sum.Sum(nil)), data
}

// made is a store with memory of the pattern, saved to a file.
func made(t *testing.T) (store *Store, path, sum string) {
	t.Helper()
	store = NewStore()
	if err := store.Create("t", size); err != nil {
		t.Fatal(err)
	}
	file, release, err := store.Use("t")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	content := pattern()
	if _, err := file.WriteAt(content[BlockBytes:], BlockBytes); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "memory")
	if _, _, err := store.Seal("t", path); !errors.Is(err, ErrBusy) {
		t.Fatalf("sealed while it was used: %v", err)
	}
	if _, _, err := store.Use("t"); !errors.Is(err, ErrBusy) {
		t.Fatalf("lent twice before it was sealed: %v", err)
	}
	release()
	sum, data, err := store.Seal("t", path)
	if err != nil {
		t.Fatal(err)
	}
	if wantSum, wantData := wantDigest(content); sum != wantSum || data != wantData {
		t.Fatalf("digest %s over %d bytes, want %s over %d", sum, data, wantSum, wantData)
	}
	return store, path, sum
}

func TestSavedMemoryIsWholeAndSparse(t *testing.T) {
	store, path, sum := made(t)
	content, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(content, pattern()) {
		t.Fatalf("the file differs (%v)", err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil || stat.Blocks*512 >= size {
		t.Errorf("%d blocks for %d bytes (%v)", stat.Blocks, size, err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("left beside it: %v", entries)
	}
	again, _, err := store.Seal("t", path)
	if err != nil || again != sum {
		t.Errorf("saved again: %s (%v)", again, err)
	}
}

func TestSealedMemoryCannotBeChanged(t *testing.T) {
	store, _, _ := made(t)
	file, release, err := store.Use("t")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	defer file.Close()
	fd := int(file.Fd())
	if _, err := unix.Pwrite(fd, []byte{1}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v", err)
	}
	if err := unix.Ftruncate(fd, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("shrink: %v", err)
	}
	if err := unix.Ftruncate(fd, 2*size); !errors.Is(err, unix.EPERM) {
		t.Errorf("grow: %v", err)
	}
	if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096); !errors.Is(err, unix.EPERM) {
		t.Errorf("punch: %v", err)
	}
	if _, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
		t.Errorf("map shared: %v", err)
	}
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("add seals: %v", err)
	}
	private, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatalf("map privately: %v", err)
	}
	private[0] = 77
	var first [1]byte
	if _, err := file.ReadAt(first[:], 0); err != nil || first[0] != 0 {
		t.Errorf("a private write shows: %v (%v)", first, err)
	}
	if err := unix.Munmap(private); err != nil {
		t.Error(err)
	}
}

func TestLoadedMemoryIsTheSameAndSealed(t *testing.T) {
	_, path, sum := made(t)
	store := NewStore()
	loaded, err := store.Load(t.Context(), "t", path, size, sum)
	if err != nil || !loaded {
		t.Fatalf("%v %v", loaded, err)
	}
	if loaded, err := store.Load(t.Context(), "t", path, size, sum); err != nil || loaded {
		t.Errorf("a second time: %v %v", loaded, err)
	}
	if list := store.List(); len(list) != 1 || list[0] != (Info{"t", size, true}) {
		t.Errorf("list: %v", list)
	}
	first, release1, err1 := store.Use("t")
	second, release2, err2 := store.Use("t")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	defer release1()
	defer release2()
	store.Drop("t")
	store.Drop("t")
	for _, file := range []*os.File{first, second} {
		content := make([]byte, size)
		if _, err := file.ReadAt(content, 0); err != nil || !bytes.Equal(content, pattern()) {
			t.Errorf("the memory differs (%v)", err)
		}
		if _, err := file.WriteAt([]byte{1}, 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("write: %v", err)
		}
		file.Close()
	}
	if _, _, err := store.Use("t"); !errors.Is(err, ErrUnknown) {
		t.Errorf("lent after it was dropped: %v", err)
	}
	if loaded, err := store.Load(t.Context(), "t", path, size, sum); err != nil || !loaded {
		t.Errorf("after a drop: %v %v", loaded, err)
	}
}

func TestOneChangedByteIsRefused(t *testing.T) {
	_, path, sum := made(t)
	original := pattern()
	// In data, in a hole, in the last byte: of each kind of block one.
	for _, at := range []int{0, BlockBytes + 17, 2*BlockBytes + 1, 3*BlockBytes + 5000, size - 1} {
		changed := bytes.Clone(original)
		changed[at] ^= 1
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		store := NewStore()
		_, err := store.Load(t.Context(), "t", path, size, sum)
		if !errors.Is(err, ErrDigest) || !strings.HasPrefix(err.Error(), "digest:") {
			t.Errorf("byte %d: %v", at, err)
		}
		if len(store.List()) != 0 {
			t.Errorf("byte %d: it is held all the same", at)
		}
	}
	// Blocks that changed places have the same bytes in another order.
	moved := bytes.Clone(original)
	copy(moved[2*BlockBytes:], original[BlockBytes:2*BlockBytes])
	clear(moved[BlockBytes : 2*BlockBytes])
	for name, content := range map[string][]byte{"moved": moved, "shorter": original[:size-1], "longer": append(original, 0)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewStore().Load(t.Context(), "t", path, size, sum); !errors.Is(err, ErrDigest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnotherDigestOfMemoryThatIsHeldIsRefused(t *testing.T) {
	store, path, sum := made(t)
	if _, err := store.Load(t.Context(), "t", path, size, strings.Repeat("0", 64)); !errors.Is(err, ErrDigest) {
		t.Errorf("digest: %v", err)
	}
	if _, err := store.Load(t.Context(), "t", path, 4096, sum); !errors.Is(err, ErrDigest) {
		t.Errorf("size: %v", err)
	}
	if loaded, err := store.Load(t.Context(), "t", path, size, sum); err != nil || loaded {
		t.Errorf("the right one: %v %v", loaded, err)
	}
	if err := store.Create("t", 4096); !errors.Is(err, ErrExists) {
		t.Errorf("made twice: %v", err)
	}
}

func TestFilesThatAreNotMemoryAreRefused(t *testing.T) {
	_, path, sum := made(t)
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	pipe := path + ".pipe"
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, pipe, filepath.Dir(path), path + ".none"} {
		if _, err := NewStore().Load(t.Context(), "t", name, size, sum); err == nil {
			t.Errorf("%s was loaded", name)
		}
	}
	for _, bytes := range []uint64{0, 1, MaxBytes + 4096} {
		if err := NewStore().Create("t", bytes); err == nil {
			t.Errorf("memory of %d bytes was made", bytes)
		}
	}
}

func TestAFailedSaveCanBeRepeated(t *testing.T) {
	store := NewStore()
	if err := store.Create("t", size); err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	if _, _, err := store.Seal("t", filepath.Join(directory, "none", "memory")); err == nil {
		t.Fatal("saved into a directory that is not there")
	}
	sum, data, err := store.Seal("t", filepath.Join(directory, "memory"))
	if err != nil || data != 0 {
		t.Fatalf("%d bytes (%v)", data, err)
	}
	if loaded, err := NewStore().Load(t.Context(), "t", filepath.Join(directory, "memory"), size, sum); err != nil || !loaded {
		t.Errorf("%v %v", loaded, err)
	}
}

func TestLoadsAtOnceReadOnce(t *testing.T) {
	_, path, sum := made(t)
	store := NewStore()
	var loads atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			loaded, err := store.Load(context.Background(), "t", path, size, sum)
			if err != nil {
				t.Error(err)
			}
			if loaded {
				loads.Add(1)
			}
		})
	}
	group.Wait()
	if loads.Load() != 1 {
		t.Errorf("%d loads", loads.Load())
	}
}
