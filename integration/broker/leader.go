package broker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// leaderTimeout bounds the wait for an election: the followers notice a dead leader
// in a few seconds, and one of them wins at the first or second try. On a busy machine
// each question alone can take that long.
const leaderTimeout = 3 * time.Minute

// Leader returns the node that leads the quorum queue on the vhost "/", waiting for
// an election where one is on, at most three minutes. It is the running node that the
// majority of the queue's members follow. What it returns was true a moment ago:
// an isolated leader is still followed until its silence is noticed.
func (c *Cluster) Leader(ctx context.Context, queue string) (*Node, error) {
	leader, _, err := c.members(ctx, queue)
	return leader, err
}

// Followers returns the other nodes that hold the quorum queue, running or not.
func (c *Cluster) Followers(ctx context.Context, queue string) ([]*Node, error) {
	_, followers, err := c.members(ctx, queue)
	return followers, err
}

func (c *Cluster) members(ctx context.Context, queue string) (*Node, []*Node, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, leaderTimeout, fmt.Errorf("waited %s", leaderTimeout))
	defer cancel()
	var leader *Node
	var followers []*Node
	var last error
	err := poll(ctx, 200*time.Millisecond, func() (bool, error) {
		var err error
		leader, followers, err = c.vote(ctx, queue)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		if errors.Is(err, errNoQueue) {
			return false, err
		}
		return leader != nil, nil
	})
	switch {
	case err == nil:
		return leader, followers, nil
	case last != nil && !errors.Is(err, last):
		return nil, nil, fmt.Errorf("find the leader of queue %q: %w (last answer: %w)", queue, err, last)
	default:
		return nil, nil, fmt.Errorf("find the leader of queue %q: %w", queue, err)
	}
}

// errNoQueue is returned when every node that answers knows of no such queue.
var errNoQueue = errors.New("there is no such queue")

// vote asks each running node whom it follows. It returns no leader and an error
// while there is no majority for a node that runs.
func (c *Cluster) vote(ctx context.Context, queue string) (*Node, []*Node, error) {
	views := make([]view, len(c.nodes))
	var running []*Node
	err := c.each(func(n *Node) (err error) {
		views[slices.Index(c.nodes, n)], err = n.follows(ctx, queue)
		return err
	})
	votes := map[string]int{}
	var members []string
	unknown := 0
	for i, v := range views {
		if v.runs {
			running = append(running, c.nodes[i])
		}
		if v.noQueue {
			unknown++
		}
		if len(v.members) > 0 {
			votes[v.leader]++
			members = v.members
		}
	}
	if len(running) > 0 && unknown == len(running) {
		return nil, nil, errNoQueue
	}
	for _, n := range running {
		if votes[n.Name()] <= len(members)/2 {
			continue
		}
		var followers []*Node
		for _, other := range c.nodes {
			if other != n && slices.Contains(members, other.Name()) {
				followers = append(followers, other)
			}
		}
		return n, followers, nil
	}
	return nil, nil, errors.Join(fmt.Errorf("no majority for a running node: %v", votes), err)
}

// view is what one node knows of a queue without asking the others.
type view struct {
	runs    bool
	noQueue bool
	leader  string // "none" during an election
	members []string
}

// askTimeout bounds one node's answer: far below a second as a rule, a few where the image
// leaves that to rabbitmqctl.
const askTimeout = time.Minute

// leaderQuery looks only at what the node has in memory. quorum_status of
// rabbitmq-queues asks all the others, and up to 4.0 hangs on one that was isolated
// until the net tick time has passed.
const leaderQuery = `case rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, %s)) of
	{ok, Q} ->
		{Name, _} = amqqueue:get_pid(Q),
		Leader = case ra_leaderboard:lookup_leader(Name) of {_, L} -> L; _ -> none end,
		Members = case ra_leaderboard:lookup_members(Name) of Ms when is_list(Ms) -> [M || {_, M} <- Ms]; _ -> [] end,
		[Leader | Members];
	_ ->
		not_found
end.`

var atom = regexp.MustCompile(`[a-z]+@[a-z0-9-]+|none`)

// follows asks one node for its view. A node that does not run has none.
func (n *Node) follows(ctx context.Context, queue string) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	inspected, err := n.inspect(ctx)
	if err != nil {
		return view{}, err
	}
	if !inspected.State.Running || inspected.State.Paused {
		return view{}, nil
	}
	out, err := n.Eval(ctx, fmt.Sprintf(leaderQuery, binary(queue)))
	if err != nil {
		return view{runs: true}, err
	}
	if strings.TrimSpace(out) == "not_found" {
		return view{runs: true, noQueue: true}, nil
	}
	names := atom.FindAllString(out, -1)
	if len(names) == 0 {
		return view{runs: true}, fmt.Errorf("read the leader from %s: it said %q", n.Name(), out)
	}
	return view{runs: true, leader: names[0], members: names[1:]}, nil
}
