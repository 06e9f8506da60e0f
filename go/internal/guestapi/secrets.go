// This file owns the method about secrets.
package guestapi

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/internal/secrets"
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
