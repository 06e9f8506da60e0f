// This file owns the protocol's part about networks.

package main

import (
	"bytes"
	"context"
	"encoding/json"

	"connectrpc.com/connect"

	launchv1 "pyro.dev/pyro/go/gen/pyro/launch/v1"
	"pyro.dev/pyro/go/internal/vmm"
)

// maxConfig bounds what netd is told, bytes: the values of secrets that it puts into requests are among it.
const maxConfig = 768 << 10

func (s *service) ConnectNet(
	ctx context.Context, request *connect.Request[launchv1.ConnectNetRequest],
) (*connect.Response[launchv1.ConnectNetResponse], error) {
	s.lease.touch()
	m := request.Msg
	err := first(checkVMID(m.GetVmId()), checkPath("program", m.GetProgram()))
	if err == nil && m.GetNetworkNamespace() != "" {
		err = checkPath("network_namespace", m.GetNetworkNamespace())
	}
	if err == nil && m.GetLogDirectory() != "" {
		err = checkPath("log_directory", m.GetLogDirectory())
	}
	if err == nil && m.GetResolverFile() != "" {
		err = checkPath("resolver_file", m.GetResolverFile())
	}
	switch {
	case err != nil:
		return nil, err
	case m.GetVsockSocket() != "" && !socketPattern.MatchString(m.GetVsockSocket()):
		return nil, invalid("vsock_socket: %q", m.GetVsockSocket())
	case len(m.GetConfig()) > maxConfig:
		return nil, invalid("config: %d bytes, at most %d", len(m.GetConfig()), maxConfig)
	}
	spec := vmm.NetworkSpec{
		Program: m.GetProgram(), VsockSocket: m.GetVsockSocket(), Namespace: m.GetNetworkNamespace(),
		LogDirectory: m.GetLogDirectory(), ResolverFile: m.GetResolverFile(),
	}
	// netd reads it as one line.
	var config bytes.Buffer
	if m.GetConfig() != "" {
		if err := json.Compact(&config, []byte(m.GetConfig())); err != nil {
			return nil, invalid("config: %v", err)
		}
	}
	report, err := s.registry.ConnectNetwork(ctx, m.GetVmId(), spec, config.String())
	if err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&launchv1.ConnectNetResponse{Report: report}), nil
}
