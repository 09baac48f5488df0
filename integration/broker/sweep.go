package broker

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/moby/moby/client"
)

// Every container and network carries the process that it belongs to.
const (
	labelOwner = "com.github.mqkit.integration.pid"
	labelSpace = "com.github.mqkit.integration.space"
)

func labels() map[string]string {
	return map[string]string{labelOwner: strconv.Itoa(os.Getpid()), labelSpace: processSpace()}
}

// processSpace names what process ids mean something in: two machines, or two
// containers, that share an engine must not take each other's processes for dead.
func processSpace() string {
	host, _ := os.Hostname()
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // absent elsewhere
	space, _ := os.Readlink("/proc/self/ns/pid")
	return strings.Join([]string{host, strings.TrimSpace(string(boot)), space}, " ")
}

var sweepOnce sync.Once

// sweepOnce removes, once per process, the containers and networks of test
// processes that ended without Close: a panic, a test timeout, a kill. It does what
// it can; a leftover is no reason to fail.
func (e *engine) sweepOnce(ctx context.Context) {
	sweepOnce.Do(func() {
		defer e.client.Close() // idle connections only
		mine := make(client.Filters).Add("label", labelSpace+"="+processSpace())
		containers, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: mine})
		if err != nil {
			return
		}
		for _, c := range containers.Items {
			if ownerIsDead(c.Labels[labelOwner]) {
				_, _ = e.client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			}
		}
		networks, err := e.client.NetworkList(ctx, client.NetworkListOptions{Filters: mine})
		if err != nil {
			return
		}
		for _, n := range networks.Items {
			if ownerIsDead(n.Labels[labelOwner]) {
				_, _ = e.client.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
			}
		}
	})
}

// ownerIsDead reports whether the process is known to be gone. In doubt it is not.
func ownerIsDead(label string) bool {
	pid, err := strconv.Atoi(label)
	if err != nil || runtime.GOOS == "windows" {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return true
	}
	// Killed and not yet waited for, which takes for ever where nobody waits.
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}
