// This file owns the methods about secrets.
package guestapi

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/internal/boot"
	"pyro.dev/pyro/go/internal/secrets"
	"pyro.dev/pyro/go/internal/trust"
)

// PutSecrets puts them into memory.
func (s *Server) PutSecrets(_ context.Context, request *connect.Request[guestv1.PutSecretsRequest]) (*connect.Response[guestv1.PutSecretsResponse], error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	var given []secrets.Secret
	for _, secret := range request.Msg.GetSecrets() {
		given = append(given, secrets.Secret{Name: secret.GetName(), Value: secret.GetValue()})
	}
	if err := secrets.Put(secrets.Directory, given); err != nil {
		if errors.Is(err, secrets.ErrInvalid) {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		return nil, connect.NewError(connect.CodeInternal, withErrno(err))
	}
	return connect.NewResponse(&guestv1.PutSecretsResponse{}), nil
}

// TrustAuthority may be called again: what is there already stays.
func (s *Server) TrustAuthority(_ context.Context, request *connect.Request[guestv1.TrustAuthorityRequest]) (*connect.Response[guestv1.TrustAuthorityResponse], error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	response := &guestv1.TrustAuthorityResponse{}
	err := trust.Add(request.Msg.GetCertificate(), request.Msg.GetOthers())
	if errors.Is(err, trust.ErrInvalid) {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err != nil {
		// A root whose list cannot be covered is the workspace's affair.
		boot.Report("trust: %v", err)
		response.Problem = err.Error()
	}
	return connect.NewResponse(response), nil
}
