package main

import (
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	launchv1 "pyro.dev/pyro/go/gen/pyro/launch/v1"
	"pyro.dev/pyro/go/internal/confine"
)

// FuzzStartRequest parses anything that decodes as a request: what is accepted keeps every bound that the rest of the
// launcher relies on, what is not is refused as a wrong argument.
func FuzzStartRequest(f *testing.F) {
	seeds := []*launchv1.StartVmRequest{
		{},
		{VmId: "vm_a", Program: "/usr/bin/qemu-system-x86_64", Args: []string{"-M", "q35"}, Confined: true, MemoryMib: 512},
		{VmId: "../x", Program: "/bin/../x"},
		{VmId: "a", Program: "/vm/x", Confined: true},
		{
			VmId: "a", Program: "/x", TemplateId: strings.Repeat("f", 64), ReadOnlyPaths: []string{"/", "/proc/1"},
			Files: []*launchv1.VmFile{{Path: "/dev/null"}, {Path: "relative", ReadOnly: true}, nil},
			Ports: []string{"control", "net/../x"}, Labels: map[string]string{"a": "b"},
		},
	}
	for _, seed := range seeds {
		data, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var request launchv1.StartVmRequest
		if proto.Unmarshal(data, &request) != nil {
			return
		}
		spec, err := parseSpec(&request)
		if err != nil {
			if connect.CodeOf(err) != connect.CodeInvalidArgument {
				t.Fatalf("%v is no refusal", err)
			}
			return
		}
		// A microVM's directory, sockets and cgroup are named by it.
		if spec.ID != filepath.Base(spec.ID) || spec.ID == "" || strings.HasPrefix(spec.ID, ".") {
			t.Fatalf("id %q", spec.ID)
		}
		paths := append([]string{spec.Program}, spec.ReadOnly...)
		for _, path := range paths {
			if confine.Reserved(path) && (spec.Confined || path != spec.Program) {
				t.Fatalf("path %q is the sandbox's own", path)
			}
		}
		for _, file := range spec.Files {
			paths = append(paths, file.Path)
		}
		for _, path := range paths {
			if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.Contains(path, "\x00") {
				t.Fatalf("path %q", path)
			}
		}
		for _, port := range spec.Ports {
			if port != filepath.Base(port) || strings.HasPrefix(port, ".") {
				t.Fatalf("port %q", port)
			}
		}
		for _, arg := range spec.Args {
			if strings.Contains(arg, "\x00") {
				t.Fatalf("argument %q", arg)
			}
		}
		if len(spec.Args) > maxArgs || len(spec.Files) > maxFiles || len(spec.Ports) > maxPorts || len(spec.Labels) > maxLabels {
			t.Fatalf("%+v is beyond the limits", spec)
		}
	})
}
