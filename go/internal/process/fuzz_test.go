package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// FuzzLookupUser lets the guest's own files say anything: a user is found whole or refused, nothing else happens.
func FuzzLookupUser(f *testing.F) {
	passwd := "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n7:x:8:8:::\n"
	group := "root:x:0:\nann:x:1000:\nwheel:x:10:ann,root\nvideo:x:44:ann\n"
	for _, user := range []string{"root", "ann", "1000", "7", "ann:wheel", "0:0", ":", "ann:", "4294967295", "-1", "nobody"} {
		f.Add(passwd, group, user)
	}
	f.Add("ann:x:4294967295:4294967295:::", "wheel:x:4294967295:ann", "ann:wheel")
	f.Add("ann:x:1:1:\x00:\x00:", "wheel:x::ann,,,ann", "ann")
	f.Add("::::::", ":::", "0")
	root := f.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, passwd, group, user string) {
		for name, text := range map[string]string{"passwd": passwd, "group": group} {
			if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		who, err := lookupUser(root, user)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotFound) {
				t.Fatalf("%q: %v is no refusal", user, err)
			}
			return
		}
		// The highest number means "leave as it is" to the kernel: a process that is given it stays root.
		const unchanged = 1<<32 - 1
		if who.uid == unchanged || slices.Contains(who.groups, unchanged) {
			t.Fatalf("%q: %+v", user, who)
		}
		if len(who.groups) == 0 || who.groups[0] != who.gid || who.home == "" {
			t.Fatalf("%q: %+v", user, who)
		}
		for _, entry := range who.withHome(nil) {
			if slices.Contains([]byte(entry), 0) {
				t.Fatalf("%q: the environment entry %q has a zero byte", user, entry)
			}
		}
	})
}
