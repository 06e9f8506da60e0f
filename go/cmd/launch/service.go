// This file owns the protocol: it checks requests and turns them into calls, and errors into codes.

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"connectrpc.com/connect"

	launchv1 "pyro.dev/pyro/go/gen/pyro/launch/v1"
	"pyro.dev/pyro/go/internal/confine"
	"pyro.dev/pyro/go/internal/memory"
	"pyro.dev/pyro/go/internal/vmm"
)

const (
	maxArgs      = 1024
	maxArgBytes  = 64 << 10
	maxPathBytes = 4095
	maxFiles     = 64
	maxPorts     = 8
	maxPaths     = 256
	maxLabels    = 64
	maxMemoryMiB = 1 << 20
	maxVCPUs     = 1024
)

var (
	vmIDPattern       = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	templateIDPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	namePattern       = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	digestPattern     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	socketPattern     = regexp.MustCompile(`^[a-z0-9-]{1,32}\.sock$`)
)

type service struct {
	store    *memory.Store
	checked  *memory.Checked
	registry *vmm.Registry
	lease    *lease
}

func (s *service) Hello(context.Context, *connect.Request[launchv1.HelloRequest]) (*connect.Response[launchv1.HelloResponse], error) {
	return connect.NewResponse(s.state(s.registry.List())), nil
}

func (s *service) state(vms []vmm.Info) *launchv1.HelloResponse {
	bounded, notes := s.registry.Limits()
	state := &launchv1.HelloResponse{Version: version, Pid: int32(os.Getpid()), Limits: bounded, LimitNotes: notes}
	for _, info := range vms {
		state.Vms = append(state.Vms, describe(info))
	}
	for _, info := range s.store.List() {
		state.Memories = append(state.Memories, &launchv1.Memory{
			TemplateId: info.ID, SizeBytes: info.SizeBytes, Sealed: info.Sealed,
		})
	}
	return state
}

func describe(info vmm.Info) *launchv1.Vm {
	return &launchv1.Vm{
		VmId: info.ID, Pid: int32(info.PID), Directory: info.Directory, Ephemeral: info.Ephemeral,
		Running: info.Running, ExitCode: int32(info.ExitCode), Signal: int32(info.Signal), Confined: info.Confined,
		TemplateId: info.TemplateID, Labels: info.Labels, LimitNotes: info.LimitNotes, Root: info.Root,
	}
}

func (s *service) Watch(
	ctx context.Context, _ *connect.Request[launchv1.WatchRequest], stream *connect.ServerStream[launchv1.WatchResponse],
) error {
	release := s.lease.claim()
	defer release()
	watcher, state := s.registry.Watch()
	defer s.registry.Unwatch(watcher)
	if err := stream.Send(&launchv1.WatchResponse{Event: &launchv1.WatchResponse_State{State: s.state(state)}}); err != nil {
		return err
	}
	for {
		select {
		case info, ok := <-watcher.Ended:
			if !ok {
				return connect.NewError(connect.CodeResourceExhausted, errors.New("the watcher is too slow"))
			}
			if err := stream.Send(&launchv1.WatchResponse{Event: &launchv1.WatchResponse_Ended{Ended: describe(info)}}); err != nil {
				return err
			}
		case <-s.lease.over:
			return connect.NewError(connect.CodeUnavailable, vmm.ErrClosing)
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *service) CreateMemory(
	_ context.Context, request *connect.Request[launchv1.CreateMemoryRequest],
) (*connect.Response[launchv1.CreateMemoryResponse], error) {
	s.lease.touch()
	if err := checkMemory(request.Msg.GetTemplateId(), request.Msg.GetSizeBytes()); err != nil {
		return nil, err
	}
	if err := s.store.Create(request.Msg.GetTemplateId(), request.Msg.GetSizeBytes()); err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.CreateMemoryResponse{}), nil
}

func (s *service) SealMemory(
	_ context.Context, request *connect.Request[launchv1.SealMemoryRequest],
) (*connect.Response[launchv1.SealMemoryResponse], error) {
	s.lease.touch()
	if err := first(checkTemplateID(request.Msg.GetTemplateId()), checkPath("save_path", request.Msg.GetSavePath())); err != nil {
		return nil, err
	}
	sha256, data, err := s.store.Seal(request.Msg.GetTemplateId(), request.Msg.GetSavePath())
	if err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.SealMemoryResponse{Sha256: sha256, DataBytes: data}), nil
}

func (s *service) LoadMemory(
	ctx context.Context, request *connect.Request[launchv1.LoadMemoryRequest],
) (*connect.Response[launchv1.LoadMemoryResponse], error) {
	s.lease.touch()
	m := request.Msg
	err := first(
		checkMemory(m.GetTemplateId(), m.GetSizeBytes()), checkPath("path", m.GetPath()), checkDigest(m.GetSha256()),
	)
	if err != nil {
		return nil, err
	}
	loaded, err := s.store.Load(ctx, m.GetTemplateId(), m.GetPath(), m.GetSizeBytes(), m.GetSha256())
	if err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.LoadMemoryResponse{Loaded: loaded}), nil
}

func (s *service) ImportMemory(
	_ context.Context, request *connect.Request[launchv1.ImportMemoryRequest],
) (*connect.Response[launchv1.ImportMemoryResponse], error) {
	s.lease.touch()
	m := request.Msg
	err := first(checkSize(m.GetSizeBytes()), checkPath("source_path", m.GetSourcePath()), checkPath("save_path", m.GetSavePath()))
	if err != nil {
		return nil, err
	}
	sha256, data, err := memory.Import(m.GetSourcePath(), m.GetSizeBytes(), m.GetSavePath())
	if err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.ImportMemoryResponse{Sha256: sha256, DataBytes: data}), nil
}

func (s *service) CheckMemory(
	_ context.Context, request *connect.Request[launchv1.CheckMemoryRequest],
) (*connect.Response[launchv1.CheckMemoryResponse], error) {
	s.lease.touch()
	m := request.Msg
	err := first(checkSize(m.GetSizeBytes()), checkPath("path", m.GetPath()), checkDigest(m.GetSha256()))
	if err != nil {
		return nil, err
	}
	read, err := s.checked.Check(m.GetPath(), m.GetSizeBytes(), m.GetSha256())
	if err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.CheckMemoryResponse{Read: read}), nil
}

func (s *service) DropMemory(
	_ context.Context, request *connect.Request[launchv1.DropMemoryRequest],
) (*connect.Response[launchv1.DropMemoryResponse], error) {
	if err := checkTemplateID(request.Msg.GetTemplateId()); err != nil {
		return nil, err
	}
	s.store.Drop(request.Msg.GetTemplateId())
	return connect.NewResponse(&launchv1.DropMemoryResponse{}), nil
}

func (s *service) StartVm(
	ctx context.Context, request *connect.Request[launchv1.StartVmRequest],
) (*connect.Response[launchv1.StartVmResponse], error) {
	s.lease.touch()
	spec, err := parseSpec(request.Msg)
	if err != nil {
		return nil, err
	}
	info, err := s.registry.Start(ctx, spec)
	if err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.StartVmResponse{Vm: describe(info)}), nil
}

func (s *service) PassDisk(
	ctx context.Context, request *connect.Request[launchv1.PassDiskRequest],
) (*connect.Response[launchv1.PassDiskResponse], error) {
	m := request.Msg
	if err := first(checkVMID(m.GetVmId()), checkPath("path", m.GetPath())); err != nil {
		return nil, err
	}
	file := vmm.File{Path: m.GetPath(), ReadOnly: m.GetReadOnly()}
	if err := s.registry.PassDisk(ctx, m.GetVmId(), file, m.GetFdSet()); err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.PassDiskResponse{}), nil
}

func (s *service) KillVm(
	ctx context.Context, request *connect.Request[launchv1.KillVmRequest],
) (*connect.Response[launchv1.KillVmResponse], error) {
	if err := checkVMID(request.Msg.GetVmId()); err != nil {
		return nil, err
	}
	if err := s.registry.Kill(ctx, request.Msg.GetVmId()); err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.KillVmResponse{}), nil
}

func (s *service) KeepVm(
	ctx context.Context, request *connect.Request[launchv1.KeepVmRequest],
) (*connect.Response[launchv1.KeepVmResponse], error) {
	s.lease.touch()
	m := request.Msg
	if err := checkVMID(m.GetVmId()); err != nil {
		return nil, err
	}
	if len(m.GetLabels()) > maxLabels {
		return nil, invalid("labels: %d, at most %d", len(m.GetLabels()), maxLabels)
	}
	if err := s.registry.Keep(ctx, m.GetVmId(), m.GetLabels(), maxLabels); err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.KeepVmResponse{}), nil
}

func (s *service) Stop(context.Context, *connect.Request[launchv1.StopRequest]) (*connect.Response[launchv1.StopResponse], error) {
	s.lease.end()
	return connect.NewResponse(&launchv1.StopResponse{}), nil
}

// parseSpec checks every field of a start.
func parseSpec(m *launchv1.StartVmRequest) (vmm.Spec, error) {
	spec := vmm.Spec{
		ID: m.GetVmId(), Program: m.GetProgram(), Args: m.GetArgs(), ReadOnly: m.GetReadOnlyPaths(),
		TemplateID: m.GetTemplateId(), Ephemeral: m.GetEphemeral(), Confined: m.GetConfined(), KVM: m.GetKvm(),
		MemoryMiB: m.GetMemoryMib(), VCPUs: m.GetVcpuCount(), Labels: m.GetLabels(),
	}
	err := first(checkVMID(spec.ID), checkPath("program", spec.Program))
	if err == nil && spec.TemplateID != "" {
		err = checkTemplateID(spec.TemplateID)
	}
	if err != nil {
		return spec, err
	}
	switch {
	case len(spec.Args) > maxArgs:
		return spec, invalid("args: %d, at most %d", len(spec.Args), maxArgs)
	case len(spec.ReadOnly) > maxPaths:
		return spec, invalid("read_only_paths: %d, at most %d", len(spec.ReadOnly), maxPaths)
	case len(m.GetFiles()) > maxFiles:
		return spec, invalid("files: %d, at most %d", len(m.GetFiles()), maxFiles)
	case len(spec.Labels) > maxLabels:
		return spec, invalid("labels: %d, at most %d", len(spec.Labels), maxLabels)
	case spec.MemoryMiB > maxMemoryMiB:
		return spec, invalid("memory_mib is %d, at most %d", spec.MemoryMiB, maxMemoryMiB)
	case spec.VCPUs > maxVCPUs:
		return spec, invalid("vcpu_count is %d, at most %d", spec.VCPUs, maxVCPUs)
	case spec.Confined && confine.Reserved(spec.Program):
		return spec, invalid("program: %s is the sandbox's own", spec.Program)
	}
	for i, arg := range spec.Args {
		if len(arg) > maxArgBytes || strings.ContainsRune(arg, 0) {
			return spec, invalid("args[%d] has a zero byte or more than %d bytes", i, maxArgBytes)
		}
	}
	for i, path := range spec.ReadOnly {
		if err := checkPath(fmt.Sprintf("read_only_paths[%d]", i), path); err != nil {
			return spec, err
		}
		if confine.Reserved(path) {
			return spec, invalid("read_only_paths[%d]: %s is the sandbox's own", i, path)
		}
	}
	for i, port := range m.GetPorts() {
		if i >= maxPorts || checkVMID(port) != nil {
			return spec, invalid("ports[%d]: at most %d, of letters, digits, - and _", i, maxPorts)
		}
		spec.Ports = append(spec.Ports, port)
	}
	for i, file := range m.GetFiles() {
		name, made := file.GetName(), file.GetPath() == "" && file.GetName() != ""
		if err := checkPath(fmt.Sprintf("files[%d].path", i), file.GetPath()); err != nil && !made {
			return spec, err
		}
		if file.GetEmptyBytes() > memory.MaxBytes || (file.GetEmptyBytes() > 0) != made {
			return spec, invalid("files[%d].empty_bytes is %d: for a file with a name and no path", i, file.GetEmptyBytes())
		}
		if name != "" && !namePattern.MatchString(name) {
			return spec, invalid("files[%d].name %.80q does not match %s", i, name, namePattern)
		}
		spec.Files = append(spec.Files, vmm.File{
			Path: file.GetPath(), ReadOnly: file.GetReadOnly(), Name: name, Empty: file.GetEmptyBytes(),
		})
	}
	if m.GetJailer() == "" {
		return spec, nil
	}
	spec.Jailer = m.GetJailer()
	return spec, checkPath("jailer", spec.Jailer)
}

func checkVMID(id string) error {
	if !vmIDPattern.MatchString(id) {
		return invalid("vm_id %.80q does not match %s", id, vmIDPattern)
	}
	return nil
}

func checkTemplateID(id string) error {
	if !templateIDPattern.MatchString(id) {
		return invalid("template_id %.140q does not match %s", id, templateIDPattern)
	}
	return nil
}

func checkMemory(id string, size uint64) error {
	return first(checkTemplateID(id), checkSize(size))
}

func checkSize(size uint64) error {
	if size == 0 || size%4096 != 0 || size > memory.MaxBytes {
		return invalid("size_bytes is %d: it must be a multiple of 4096, at most %d", size, uint64(memory.MaxBytes))
	}
	return nil
}

func checkDigest(sha256 string) error {
	if !digestPattern.MatchString(sha256) {
		return invalid("sha256 must be 64 hexadecimal digits, lower case")
	}
	return nil
}

func checkPath(field, path string) error {
	if !cleanAbsolute(path) || len(path) > maxPathBytes {
		return invalid("%s: %.200q is not an absolute path without . and ..", field, path)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func invalid(format string, values ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, values...))
}

// coded gives an error the code the daemon goes by. Messages of FailedPrecondition may begin with a word and a colon
// that tells more: "digest:", "tool:", "kvm:", "confinement:", "monitor:".
func coded(err error) error {
	code := connect.CodeInternal
	switch {
	case errors.Is(err, context.Canceled):
		code = connect.CodeCanceled
	case errors.Is(err, memory.ErrExists), errors.Is(err, vmm.ErrExists):
		code = connect.CodeAlreadyExists
	case errors.Is(err, memory.ErrUnknown), errors.Is(err, vmm.ErrUnknown):
		code = connect.CodeNotFound
	case errors.Is(err, vmm.ErrLabels):
		code = connect.CodeInvalidArgument
	case errors.Is(err, vmm.ErrClosing):
		code = connect.CodeUnavailable
	case errors.Is(err, memory.ErrBusy), errors.Is(err, memory.ErrDigest), errors.Is(err, vmm.ErrConfinement),
		errors.Is(err, confine.ErrTool), errors.Is(err, confine.ErrKVM), errors.Is(err, vmm.ErrMonitor),
		errors.Is(err, vmm.ErrNetwork):
		code = connect.CodeFailedPrecondition
	case errors.Is(err, fs.ErrNotExist):
		code = connect.CodeNotFound
	case errors.Is(err, fs.ErrPermission):
		code = connect.CodePermissionDenied
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		code = connect.CodeDeadlineExceeded
	}
	return connect.NewError(code, err)
}
