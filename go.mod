module pyro.dev/pyro

go 1.25.0

require (
	connectrpc.com/connect v1.20.0
	golang.org/x/net v0.56.0
	golang.org/x/sys v0.46.0
	google.golang.org/protobuf v1.36.12
)

require golang.org/x/text v0.38.0 // indirect

tool (
	connectrpc.com/connect/cmd/protoc-gen-connect-go
	google.golang.org/protobuf/cmd/protoc-gen-go
)
