package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// leaderTimeout bounds the wait for an election: the followers notice a dead leader
// in a few seconds, and one of them wins at the first or second try.
const leaderTimeout = 60 * time.Second

// Leader returns the node that leads the quorum queue on the vhost "/", waiting for
// an election where one is on, at most 60 s. What it returns was true a moment ago.
func (c *Cluster) Leader(ctx context.Context, queue string) (*Node, error) {
	leader, _, err := c.members(ctx, queue)
	return leader, err
}

// Followers returns the other nodes that hold the quorum queue, running or not.
func (c *Cluster) Followers(ctx context.Context, queue string) ([]*Node, error) {
	_, followers, err := c.members(ctx, queue)
	return followers, err
}

// member is one line of rabbitmq-queues quorum_status.
type member struct {
	Node  string `json:"Node Name"`
	State string `json:"Raft State"`
	Term  any    `json:"Term"` // a number, or a word for a member that does not answer
}

func (c *Cluster) members(ctx context.Context, queue string) (*Node, []*Node, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, leaderTimeout, fmt.Errorf("waited %s", leaderTimeout))
	defer cancel()
	var leader *Node
	var followers []*Node
	var last error
	err := poll(ctx, 200*time.Millisecond, func() (bool, error) {
		for _, n := range c.nodes {
			view, err := c.ask(ctx, n, queue)
			if ctx.Err() != nil {
				return false, context.Cause(ctx)
			}
			if err != nil {
				last = err
				continue
			}
			if leader, followers = c.judge(view); leader != nil {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("find the leader of queue %q: %w", queue, errors.Join(err, last))
	}
	return leader, followers, nil
}

// askTimeout bounds one node's answer, a second as a rule. A node that has been
// isolated waits for peers it does not know to be gone.
const askTimeout = 8 * time.Second

// ask returns the queue's members as one node sees them.
func (c *Cluster) ask(ctx context.Context, n *Node, queue string) ([]member, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	inspected, err := n.inspect(ctx)
	if err != nil {
		return nil, err
	}
	if !inspected.State.Running || inspected.State.Paused {
		return nil, fmt.Errorf("ask %s: it does not run", n.Name())
	}
	out, err := n.Exec(ctx, "rabbitmq-queues", "quorum_status", "--formatter", "json", "--vhost", "/", queue)
	if err != nil {
		return nil, err
	}
	var view []member
	if err := json.Unmarshal([]byte(out), &view); err != nil {
		return nil, fmt.Errorf("read quorum_status: %w", err)
	}
	return view, nil
}

// judge returns the leader and everybody else, or no leader for a view that is not
// a majority's: an isolated leader goes on calling itself one.
func (c *Cluster) judge(view []member) (leader *Node, followers []*Node) {
	answered, highest := 0, -1.0
	for _, m := range view {
		term, ok := m.Term.(float64)
		if !ok {
			continue
		}
		answered++
		if m.State == "leader" && term > highest {
			highest, leader = term, c.named(m.Node)
		}
	}
	if leader == nil || answered <= len(view)/2 {
		return nil, nil
	}
	for _, m := range view {
		if n := c.named(m.Node); n != nil && n != leader {
			followers = append(followers, n)
		}
	}
	return leader, followers
}

func (c *Cluster) named(name string) *Node {
	i := slices.IndexFunc(c.nodes, func(n *Node) bool { return n.Name() == name })
	if i < 0 {
		return nil
	}
	return c.nodes[i]
}
