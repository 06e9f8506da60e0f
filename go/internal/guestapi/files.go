// This file owns the workspace's files, and patches of them, in the protocol's words.
package guestapi

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/internal/files"
	"pyro.dev/pyro/go/internal/patch"
)

// ListFiles tells what is in the workspace.
func (s *Server) ListFiles(_ context.Context, request *connect.Request[guestv1.ListFilesRequest]) (*connect.Response[guestv1.ListFilesResponse], error) {
	tree, err := s.filesOf()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	page, err := tree.List(m.GetPath(), m.GetRecursive(), m.GetLimit(), m.GetAfter())
	if err != nil {
		return nil, fileRefusal(err)
	}
	response := &guestv1.ListFilesResponse{More: page.More}
	for _, info := range page.Files {
		response.Files = append(response.Files, wireFile(info))
	}
	return connect.NewResponse(response), nil
}

// ReadFile reads a part of a file.
func (s *Server) ReadFile(_ context.Context, request *connect.Request[guestv1.ReadFileRequest]) (*connect.Response[guestv1.ReadFileResponse], error) {
	tree, err := s.filesOf()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	part, err := tree.Read(m.GetPath(), files.Window{
		Offset: m.GetOffset(), Max: m.GetMaxBytes(), FirstLine: m.GetFirstLine(), LastLine: m.GetLastLine(),
	})
	if err != nil {
		return nil, fileRefusal(err)
	}
	return connect.NewResponse(&guestv1.ReadFileResponse{
		File: wireFile(part.Info), Content: part.Content, Offset: part.Offset, More: part.More,
	}), nil
}

// WriteFile makes a file or puts another in its place.
func (s *Server) WriteFile(ctx context.Context, request *connect.Request[guestv1.WriteFileRequest]) (*connect.Response[guestv1.WriteFileResponse], error) {
	tree, err := s.filesOf()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	written, err := tree.Write(ctx, m.GetRequestId(), m.GetPath(), m.GetContent())
	if err != nil {
		return nil, fileRefusal(err)
	}
	return connect.NewResponse(&guestv1.WriteFileResponse{File: wireFile(written.Info), Created: written.Created}), nil
}

// EditFile replaces a text in a file.
func (s *Server) EditFile(ctx context.Context, request *connect.Request[guestv1.EditFileRequest]) (*connect.Response[guestv1.EditFileResponse], error) {
	tree, err := s.filesOf()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	edited, err := tree.Edit(ctx, m.GetRequestId(), m.GetPath(), m.GetOld(), m.GetNew(), m.GetAll())
	if err != nil {
		return nil, fileRefusal(err)
	}
	return connect.NewResponse(&guestv1.EditFileResponse{
		File: wireFile(edited.Info), Replaced: edited.Replaced, Lines: edited.Lines,
	}), nil
}

// ApplyPatch changes files as a patch says.
func (s *Server) ApplyPatch(ctx context.Context, request *connect.Request[guestv1.ApplyPatchRequest]) (*connect.Response[guestv1.ApplyPatchResponse], error) {
	tree, err := s.filesOf()
	if err != nil {
		return nil, err
	}
	outcomes, err := tree.Patch(ctx, request.Msg.GetRequestId(), request.Msg.GetPatch())
	if err != nil {
		return nil, fileRefusal(err)
	}
	response := &guestv1.ApplyPatchResponse{}
	for _, outcome := range outcomes {
		kind := guestv1.FileType_FILE_TYPE_FILE
		if outcome.Type == patch.Link {
			kind = guestv1.FileType_FILE_TYPE_SYMLINK
		}
		response.Files = append(response.Files, &guestv1.PatchedFile{
			Path: []byte(outcome.Path), Status: guestv1.PatchStatus(outcome.Status), Type: kind,
			OldPath: []byte(outcome.OldPath), Text: outcome.Text,
		})
	}
	return connect.NewResponse(response), nil
}

// filesOf refuses what is about files where there is no root for them.
func (s *Server) filesOf() (*files.Tree, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.up(); err != nil {
		return nil, err
	}
	if s.files == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("MountRoot comes before files"))
	}
	return s.files, nil
}

func wireFile(info files.Info) *guestv1.File {
	return &guestv1.File{
		Path: []byte(info.Path), Type: guestv1.FileType(info.Type), Size: info.Size, Mode: info.Mode,
		ModifiedSeconds: info.Modified.Sec, ModifiedNanoseconds: uint32(info.Modified.Nsec), LinkTarget: []byte(info.Target),
	}
}

// fileRefusal turns an error about files into the protocol's.
func fileRefusal(err error) error {
	var refused *files.Refusal
	if !errors.As(err, &refused) {
		return answer(err)
	}
	code := connect.CodeFailedPrecondition
	if refused.Kind == files.Full {
		code = connect.CodeResourceExhausted
	}
	told := connect.NewError(code, refused)
	detail, detailErr := connect.NewErrorDetail(&guestv1.FileRefusal{
		Kind: string(refused.Kind), Why: refused.Why, Path: []byte(refused.Path), Lines: refused.Lines, Count: refused.Count,
		Hunk: uint32(refused.Hunk), Line: refused.Line, Expected: refused.Expected, Found: refused.Found, Partly: refused.Partly,
	})
	if detailErr == nil {
		told.AddDetail(detail)
	}
	return told
}
