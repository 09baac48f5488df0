package broker

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Kill ends the node at once, with SIGKILL, as a power cut does. When it returns
// nil the container has been seen not to run. Data and ports stay for [Node.Start];
// of a queue that is younger than a second only after [Node.SyncQueues].
func (n *Node) Kill(ctx context.Context) error {
	return n.control(ctx, "kill", func(c client.APIClient) error {
		_, err := c.ContainerKill(ctx, n.id, client.ContainerKillOptions{Signal: "SIGKILL"})
		return err
	}, func(s *container.State) bool { return !s.Running })
}

// SyncQueues writes to disk which quorum queues the node holds. Call it between the
// declare of a queue and the first [Node.Kill].
//
// The broker does so by itself only every half second (3.10.8, 4.0.5, 4.3.6). A
// node killed earlier finds no member of the queue at its next start, makes an empty
// one ("name_not_registered" in its log), and with it drops every message that it
// had confirmed.
func (n *Node) SyncQueues(ctx context.Context) error {
	const sync = `dets:sync(maps:get(directory_rev, maps:get(names, ra_system:fetch(quorum_queues)))).`
	out, err := n.Eval(ctx, sync)
	if err != nil {
		return fmt.Errorf("sync queues: %w", err)
	}
	if got := strings.TrimSpace(out); got != "ok" {
		return fmt.Errorf("sync queues of %s: the broker said %s", n.host, got)
	}
	return nil
}

// stopTimeout is what a node gets for an orderly shutdown; 3.10 takes 6 s of it.
const stopTimeout = 60 * time.Second

// Stop ends the node in order, with SIGTERM. Like [Node.Kill] it returns nil once
// the container has been seen not to run.
func (n *Node) Stop(ctx context.Context) error {
	return n.control(ctx, "stop", func(c client.APIClient) error {
		seconds := int(stopTimeout.Seconds())
		_, err := c.ContainerStop(ctx, n.id, client.ContainerStopOptions{Timeout: &seconds})
		return err
	}, func(s *container.State) bool { return !s.Running })
}

// Start starts the same container again after Kill or Stop: same data, same name,
// same ports. It does not wait for the broker; see [Node.WaitReady].
func (n *Node) Start(ctx context.Context) error {
	return n.control(ctx, "start", func(c client.APIClient) error {
		_, err := c.ContainerStart(ctx, n.id, client.ContainerStartOptions{})
		return err
	}, func(s *container.State) bool { return s.Running })
}

// pauseAttempts bounds how often a freeze is tried that the kernel did not get done
// in the engine's time, which happens on a busy machine.
const pauseAttempts = 5

// Pause freezes every process of the node. Its connections stay up and fall
// silent; new ones to its published ports are taken by the engine and hang.
func (n *Node) Pause(ctx context.Context) error {
	return n.control(ctx, "pause", func(c client.APIClient) error {
		var err error
		for range pauseAttempts {
			_, err = c.ContainerPause(ctx, n.id, client.ContainerPauseOptions{})
			if err == nil || !strings.Contains(err.Error(), "unable to freeze") {
				break
			}
		}
		return err
	}, func(s *container.State) bool { return s.Paused })
}

// Unpause lets a paused node go on.
func (n *Node) Unpause(ctx context.Context) error {
	return n.control(ctx, "unpause", func(c client.APIClient) error {
		_, err := c.ContainerUnpause(ctx, n.id, client.ContainerUnpauseOptions{})
		return err
	}, func(s *container.State) bool { return s.Running && !s.Paused })
}

// stateTimeout bounds the wait for the engine to report what it has just done.
const stateTimeout = 10 * time.Second

// control does one thing to the container and waits until the engine reports that
// it has happened: a test must be able to trust its fault.
func (n *Node) control(ctx context.Context, verb string, do func(client.APIClient) error, done func(*container.State) bool) error {
	if n.engine == nil {
		return fmt.Errorf("%s node: %w", verb, ErrNoControl)
	}
	defer n.engine.client.Close() // idle connections only
	if err := do(n.engine.client); err != nil {
		return fmt.Errorf("%s %s: %w", verb, n.host, err)
	}
	waitCtx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	err := poll(waitCtx, 20*time.Millisecond, func() (bool, error) {
		inspected, err := n.inspect(waitCtx)
		if err != nil {
			return false, err
		}
		return done(inspected.State), nil
	})
	if err != nil {
		return fmt.Errorf("see %s %s: %w", n.host, verb, err)
	}
	return nil
}

// Running reports whether the container runs, paused or not.
func (n *Node) Running(ctx context.Context) (bool, error) {
	inspected, err := n.inspect(ctx)
	if err != nil {
		return false, err
	}
	return inspected.State.Running, nil
}

func (n *Node) inspect(ctx context.Context) (container.InspectResponse, error) {
	if n.engine == nil {
		return container.InspectResponse{}, fmt.Errorf("inspect node: %w", ErrNoControl)
	}
	defer n.engine.client.Close() // idle connections only
	result, err := n.engine.client.ContainerInspect(ctx, n.id, client.ContainerInspectOptions{})
	if err != nil {
		return container.InspectResponse{}, fmt.Errorf("inspect %s: %w", n.host, err)
	}
	return result.Container, nil
}

// Logs returns all that the node has printed since it was launched, over every start.
func (n *Node) Logs(ctx context.Context) (string, error) {
	return n.logs(ctx, "all")
}

func (n *Node) logs(ctx context.Context, tail string) (string, error) {
	if n.engine == nil {
		return "", fmt.Errorf("read logs: %w", ErrNoControl)
	}
	defer n.engine.client.Close() // idle connections only
	stream, err := n.engine.client.ContainerLogs(ctx, n.id, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Tail: tail,
	})
	if err != nil {
		return "", fmt.Errorf("read logs of %s: %w", n.host, err)
	}
	defer stream.Close()
	var b bytes.Buffer
	if _, err := stdcopy.StdCopy(&b, &b, stream); err != nil {
		return b.String(), fmt.Errorf("read logs of %s: %w", n.host, err)
	}
	return b.String(), nil
}

// poll calls check at once and then every interval, until it is true, fails, or
// ctx ends.
func poll(ctx context.Context, interval time.Duration, check func() (bool, error)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		done, err := check()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
