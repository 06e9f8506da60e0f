// This file owns the network, in the protocol's words.
package guestapi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"connectrpc.com/connect"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/internal/boot"
	"pyro.dev/pyro/go/internal/tun"
)

// SetNetwork may be called again: what is there already stays.
func (s *Server) SetNetwork(ctx context.Context, request *connect.Request[guestv1.SetNetworkRequest]) (*connect.Response[guestv1.SetNetworkResponse], error) {
	settings, servers, err := readNetwork(request.Msg)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	release, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s.mu.Lock()
	mounted := s.root != nil
	s.mu.Unlock()
	if !mounted {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("MountRoot comes before SetNetwork"))
	}
	if err := s.network.Set(settings); err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	response := &guestv1.SetNetworkResponse{}
	if err := tun.Resolve(servers); err != nil {
		// A root that has no place for it is the workspace's affair.
		boot.Report("resolver: %v", err)
		response.ResolverProblem = err.Error()
	}
	return connect.NewResponse(response), nil
}

func readNetwork(m *guestv1.SetNetworkRequest) (settings tun.Settings, servers []netip.Addr, err error) {
	settings.MTU = m.GetMtu()
	if settings.MTU < 1280 || settings.MTU > 65535 {
		return settings, nil, fmt.Errorf("mtu %d", settings.MTU)
	}
	for _, text := range m.GetAddresses() {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return settings, nil, err
		}
		settings.Addresses = append(settings.Addresses, prefix)
	}
	for _, text := range m.GetRoutes() {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return settings, nil, err
		}
		settings.Routes = append(settings.Routes, prefix.Masked())
	}
	for _, text := range m.GetNameServers() {
		server, err := netip.ParseAddr(text)
		if err != nil {
			return settings, nil, err
		}
		servers = append(servers, server)
	}
	return settings, servers, nil
}
