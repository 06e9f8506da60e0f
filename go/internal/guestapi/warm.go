// This file owns what is done once for all microVMs of a template: what the first use of a message would do in each.

package guestapi

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
)

// Warm makes the codecs of every message of the protocol. They are made at first use otherwise, which is after the
// restore, where the code that makes them has to be translated under emulation.
func Warm() error {
	for _, file := range []protoreflect.FileDescriptor{
		guestv1.File_pyro_guest_v1_guest_proto, guestv1.File_pyro_guest_v1_files_proto,
		guestv1.File_pyro_guest_v1_inspect_proto, guestv1.File_pyro_guest_v1_changes_proto,
	} {
		if err := warm(file.Messages()); err != nil {
			return err
		}
	}
	return nil
}

func warm(messages protoreflect.MessageDescriptors) error {
	for i := range messages.Len() {
		name := messages.Get(i).FullName()
		kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
		if err != nil {
			return fmt.Errorf("message %s: %w", name, err)
		}
		message := kind.New()
		data, err := proto.Marshal(message.Interface())
		if err != nil {
			return fmt.Errorf("message %s: %w", name, err)
		}
		if err := proto.Unmarshal(data, message.Interface()); err != nil {
			return fmt.Errorf("message %s: %w", name, err)
		}
		message.Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool { return true })
	}
	return nil
}
