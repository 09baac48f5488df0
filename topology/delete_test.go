package topology_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/topology"
)

// stat is what a broker tells of a queue when it is declared.
type stat struct{ messages, consumers uint32 }

// deleteFrom runs Delete for one queue against a broker that tells looks, one
// after the other, and has a message for each get or none. It returns the
// methods that the broker was sent.
func deleteFrom(t *testing.T, q topology.Queue, opts topology.DeleteOptions, hasMessage bool, looks ...stat) (sent []string, err error) {
	t.Helper()
	b := mqtest.New(t)
	var mu sync.Mutex
	b.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point != mqtest.Received || e.Channel == 0 || e.Method == "channel.open" || e.Method == "channel.close" {
			return mqtest.Pass()
		}
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, e.Method)
		switch e.Method {
		case "queue.declare":
			if len(looks) == 0 {
				return mqtest.Cut()
			}
			look := looks[0]
			looks = looks[1:]
			return mqtest.Answer(mqtest.Method{Name: "queue.declare-ok", Fields: map[string]any{
				"queue": q.Name, "message-count": look.messages, "consumer-count": look.consumers,
			}})
		case "basic.get":
			if !hasMessage {
				return mqtest.Answer(mqtest.Method{Name: "basic.get-empty"})
			}
			return mqtest.Answer(mqtest.Method{
				Name: "basic.get-ok", Fields: map[string]any{"delivery-tag": 1, "routing-key": q.Name}, Body: []byte("x"),
			})
		case "queue.delete":
			return mqtest.Answer(mqtest.Method{Name: "queue.delete-ok"})
		default:
			return mqtest.Drop()
		}
	})
	conn, err := amqp.Dial(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	err = topology.Delete(t.Context(), ch, topology.Topology{Queues: []topology.Queue{q}}, opts)
	_ = conn.Close() // fails when the broker has cut it; after it all has been received
	mu.Lock()
	defer mu.Unlock()
	return sent, err
}

func TestDeleteKeepsWhatMayHoldMessagesThatNobodyCounts(t *testing.T) {
	t.Parallel()
	nothing, discard, inUse := topology.DeleteOptions{}, topology.DeleteOptions{DiscardMessages: true}, topology.DeleteOptions{InUse: true}
	quorum := topology.Queue{Name: "q"}
	classic := topology.Queue{Name: "q", Type: topology.Classic}
	single := topology.Queue{Name: "q", SingleActiveConsumer: true}
	delayed := topology.Queue{Name: "q", DelayedRetry: topology.DelayedRetry{Min: 1e9}}
	undelayed := topology.Queue{Name: "q", DelayedRetry: topology.DelayedRetry{Type: topology.DelayDisabled}}
	for _, c := range []struct {
		claim      string
		queue      topology.Queue
		opts       topology.DeleteOptions
		hasMessage bool
		looks      []stat
		kept       string // part of the error; empty if the queue is deleted
	}{
		{"an empty quorum queue goes", quorum, nothing, false, []stat{{}, {}}, ""},
		{"an empty classic queue goes", classic, nothing, false, []stat{{}}, ""},
		{"messages stay", quorum, nothing, false, []stat{{messages: 2}}, "it holds 2 messages: set DiscardMessages"},
		{"messages of a slow leader stay", quorum, nothing, true, []stat{{}}, "it holds messages: set DiscardMessages"},
		{"a slow leader may have consumers", quorum, discard, true, []stat{{}}, "try again, or set InUse"},
		{"consumers of a slow leader, which hold every message", quorum, nothing, false, []stat{{}, {consumers: 1}}, "it has 1 consumer: set InUse"},
		{"consumers of a slow leader when messages can go", quorum, discard, false, []stat{{}, {consumers: 1}}, "it has 1 consumer: set InUse"},
		{"what the consumers of a quorum queue hold", quorum, inUse, false, []stat{{consumers: 2}}, "it has 2 consumers, and does not tell what is delivered and not settled: set DiscardMessages"},
		{"what the consumers of a classic queue hold", classic, inUse, false, []stat{{consumers: 1}}, "it has 1 consumer, and does not tell"},
		{"a single active consumer cannot be looked behind", single, nothing, false, []stat{{}}, "set DiscardMessages and InUse"},
		{"a single active consumer when messages can go", single, discard, false, []stat{{}}, "set DiscardMessages and InUse"},
		{"a single active consumer whose leader has answered", single, discard, false, []stat{{messages: 1}}, ""},
		{"messages that wait for their retry", delayed, nothing, false, []stat{{}, {}}, "wait for their retry: set DiscardMessages"},
		{"a delayed retry when messages can go", delayed, discard, false, []stat{{}, {}}, ""},
		{"a delayed retry that is disabled", undelayed, nothing, false, []stat{{}, {}}, ""},
		{"both options ask nothing", delayed, topology.DeleteOptions{DiscardMessages: true, InUse: true}, false, nil, ""},
	} {
		t.Run(c.claim, func(t *testing.T) {
			t.Parallel()
			sent, err := deleteFrom(t, c.queue, c.opts, c.hasMessage, c.looks...)
			deleted := slices.Contains(sent, "queue.delete")
			if c.kept == "" {
				if err != nil || !deleted {
					t.Errorf("kept: %v; sent %v", err, sent)
				}
				return
			}
			if deleted {
				t.Errorf("deleted; sent %v", sent)
			}
			if !errors.Is(err, topology.ErrKept) || !strings.Contains(err.Error(), c.kept) {
				t.Errorf("the error is %v, want %q", err, c.kept)
			}
			if taken := slices.Contains(sent, "basic.get") && c.hasMessage; taken && !slices.Contains(sent, "basic.nack") {
				t.Error("the message was not given back")
			}
		})
	}
}
