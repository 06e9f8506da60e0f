// This file owns changes of files that are no text.
package patch

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// MostContent is how large a file may be that a patch changes or makes, bytes.
const MostContent = 64 << 20

// patchBinary works out the new content. A binary patch says by hashes what it applies to and what it makes. Errors: *Problem.
func patchBinary(path string, content []byte, isNew bool, file *gitdiff.File) ([]byte, error) {
	oldHash, newHash := file.OldOIDPrefix, file.NewOIDPrefix
	if len(oldHash) != sha1.Size*2 || len(newHash) != sha1.Size*2 {
		return nil, problem(Invalid, path, "the change of %s is binary and not in the patch; `git diff --binary` has it", quoted(path))
	}
	if isNew && !isNull(oldHash) || !isNew && blobHash(content) != oldHash {
		return nil, problem(Rejected, path, "%s is not the binary file that the patch was made from", quoted(path))
	}
	if isNull(newHash) {
		return nil, nil
	}
	if file.BinaryFragment == nil {
		return nil, problem(Invalid, path, "the change of %s is binary and not in the patch; `git diff --binary` has it", quoted(path))
	}
	if file.BinaryFragment.Size > MostContent {
		return nil, tooLarge(path)
	}
	var made bytes.Buffer
	applier := gitdiff.NewBinaryApplier(&made, bytes.NewReader(content), gitdiff.WithMaxBinaryFragmentBytes(MostContent))
	if err := applier.ApplyFragment(file.BinaryFragment); err != nil {
		return nil, problem(Invalid, path, "the binary change of %s is damaged: %.200s", quoted(path), err)
	}
	if blobHash(made.Bytes()) != newHash {
		return nil, problem(Invalid, path, "the binary change of %s does not make what it says it makes", quoted(path))
	}
	return made.Bytes(), nil
}

// checkReverse reads what a binary patch has for its way back. Nobody takes that way, but one that is damaged says that the rest may
// be too.
func checkReverse(path string, file *gitdiff.File) error {
	reverse := file.ReverseBinaryFragment
	if reverse == nil || reverse.Size > MostContent {
		return nil
	}
	if _, err := io.Copy(io.Discard, reverse.Data()); err != nil {
		return problem(Invalid, path, "the binary change of %s is damaged: %.200s", quoted(path), err)
	}
	return nil
}

func tooLarge(path string) *Problem {
	return problem(Limit, path, "%s has more than %d bytes, the most of a file that is patched", quoted(path), MostContent)
}

func isNull(hash string) bool { return strings.Trim(hash, "0") == "" }

// blobHash is the name that git has for a content.
func blobHash(content []byte) string {
	sum := sha1.New()
	fmt.Fprintf(sum, "blob %d\x00", len(content))
	sum.Write(content)
	return hex.EncodeToString(sum.Sum(nil))
}
