package main

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	launchv1 "pyro.dev/pyro/go/gen/pyro/launch/v1"
)

func (l *launcher) keep(t *testing.T, id string, labels map[string]string) error {
	t.Helper()
	_, err := l.KeepVm(t.Context(), connect.NewRequest(&launchv1.KeepVmRequest{VmId: id, Labels: labels}))
	return err
}

// held is what the launcher tells of a microVM, nil when it tells nothing.
func (l *launcher) held(t *testing.T, id string) *launchv1.Vm {
	t.Helper()
	response, err := l.Hello(t.Context(), connect.NewRequest(&launchv1.HelloRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, vm := range response.Msg.GetVms() {
		if vm.GetVmId() == id {
			return vm
		}
	}
	return nil
}

func TestAKeptMicroVMLivesOnUnclaimed(t *testing.T) {
	l := start(t, "--grace-seconds", "0.5")
	_, _, leave := l.watch(t)
	passing, kept := shell("vm_p", "exec sleep 1000", false), shell("vm_k", "exec sleep 1000", false)
	passing.Ephemeral, kept.Ephemeral = true, true
	kept.Labels = map[string]string{"pool": "yes", "template": "a"}
	gonePID := int(l.mustStart(t, passing).GetPid())
	keptPID := int(l.mustStart(t, kept).GetPid())
	for range 2 {
		if err := l.keep(t, "vm_k", map[string]string{"pool": "no", "workspace": "ws_1"}); err != nil {
			t.Fatal(err)
		}
	}
	vm := l.held(t, "vm_k")
	want := map[string]string{"pool": "no", "template": "a", "workspace": "ws_1"}
	if vm.GetEphemeral() || !maps.Equal(vm.GetLabels(), want) {
		t.Errorf("kept: %v", vm)
	}
	leave()
	gone(t, []int{gonePID})
	time.Sleep(700 * time.Millisecond)
	if !alive(keptPID) {
		t.Fatal("it ended with the lease though it was kept")
	}
	l.mustKill(t, "vm_k")
}

func TestWhatCannotBeKept(t *testing.T) {
	l := start(t)
	_, _, _ = l.watch(t)
	wantCode(t, l.keep(t, "..", nil), connect.CodeInvalidArgument)
	wantCode(t, l.keep(t, "vm_x", nil), connect.CodeNotFound)
	l.mustStart(t, shell("vm_e", "exit 3", false))
	eventually(t, "it has ended", func() bool { return !l.held(t, "vm_e").GetRunning() })
	wantCode(t, l.keep(t, "vm_e", nil), connect.CodeNotFound)
	full := shell("vm_f", "exec sleep 1000", false)
	full.Ephemeral, full.Labels = true, map[string]string{}
	for i := range maxLabels {
		full.Labels[fmt.Sprint(i)] = ""
	}
	l.mustStart(t, full)
	wantCode(t, l.keep(t, "vm_f", map[string]string{"more": ""}), connect.CodeInvalidArgument, "labels")
	if vm := l.held(t, "vm_f"); !vm.GetEphemeral() || len(vm.GetLabels()) != maxLabels {
		t.Errorf("a keep that was refused changed it: %v", vm)
	}
	l.mustKill(t, "vm_f")
	wantCode(t, l.keep(t, "vm_f", nil), connect.CodeNotFound)
}

// Keeping races with the end of the grace time: who is told that it is kept has a microVM that lives, and who is not has
// one that ends.
func TestKeepingIsAllOrNothingWhenTheGraceTimeEnds(t *testing.T) {
	l := start(t, "--grace-seconds", "0.3")
	_, _, leave := l.watch(t)
	const count = 24
	pids := map[string]int{}
	for i := range count {
		request := shell(fmt.Sprintf("vm_%d", i), "exec sleep 1000", false)
		request.Ephemeral = true
		pids[request.GetVmId()] = int(l.mustStart(t, request).GetPid())
	}
	leave()
	// Keeping is use of the launcher and begins the grace time anew: so each is tried once, about when it ends.
	time.Sleep(290 * time.Millisecond)
	var group sync.WaitGroup
	var mutex sync.Mutex
	kept := map[string]bool{}
	for id := range pids {
		group.Go(func() {
			err := l.keep(t, id, nil)
			mutex.Lock()
			defer mutex.Unlock()
			kept[id] = err == nil
		})
	}
	group.Wait()
	time.Sleep(time.Second)
	for id, pid := range pids {
		if alive(pid) != kept[id] {
			t.Errorf("%s: alive %v, kept %v", id, alive(pid), kept[id])
		}
		if kept[id] {
			l.mustKill(t, id)
		}
	}
}
