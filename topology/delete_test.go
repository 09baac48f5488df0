package topology_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/amqppeer"
	"github.com/mqkit/mqkit/topology"
)

// What the scripted peer has no names for.
const (
	basicGet    = "[60 70]"
	queueDelete = "[50 40]"
)

// stat is what a broker tells of a queue when it is declared.
type stat struct{ messages, consumers uint32 }

// deleteFrom runs Delete for one queue against a broker that tells looks, one
// after the other, and has a message for each get or none. It returns the
// methods that the broker was sent, and their flags in queue.delete.
func deleteFrom(t *testing.T, q topology.Queue, opts topology.DeleteOptions, hasMessage bool, looks ...stat) (sent []string, err error) {
	t.Helper()
	peer, err := amqppeer.Listen("4.3.6")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peer.Close)
	peer.Hold("queue.declare")
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for {
			m, err := peer.Next(t.Context(), "queue.declare", basicGet, queueDelete, "basic.nack", "connection.close")
			if err != nil || m.Name == "connection.close" {
				return
			}
			sent = append(sent, m.Name)
			switch m.Name {
			case "queue.declare":
				if len(looks) == 0 {
					m.Conn.Cut()
					return
				}
				m.Conn.Send(frame(1, m.Channel, []byte{0, 50, 0, 11}, shortString(m.Queue), uint32Bytes(looks[0].messages), uint32Bytes(looks[0].consumers)))
				looks = looks[1:]
			case basicGet:
				if !hasMessage {
					m.Conn.Send(frame(1, m.Channel, []byte{0, 60, 0, 72}, shortString("")))
					continue
				}
				m.Conn.Send(
					frame(1, m.Channel, []byte{0, 60, 0, 71}, make([]byte, 7), []byte{1, 0}, shortString(""), shortString(q.Name), uint32Bytes(0)),
					frame(2, m.Channel, []byte{0, 60, 0, 0}, make([]byte, 7), []byte{1}, []byte{0, 0}),
					frame(3, m.Channel, []byte("x")),
				)
			case queueDelete:
				m.Conn.Send(frame(1, m.Channel, []byte{0, 50, 0, 41}, uint32Bytes(0)))
			}
		}
	}()
	conn, err := amqp.Dial(peer.URL())
	if err != nil {
		t.Fatal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	err = topology.Delete(t.Context(), ch, topology.Topology{Queues: []topology.Queue{q}}, opts)
	_ = conn.Close() // fails when the peer has cut it
	<-answered
	return sent, err
}

func frame(kind byte, channel uint16, payload ...[]byte) []byte {
	p := slices.Concat(payload...)
	return slices.Concat([]byte{kind}, binary.BigEndian.AppendUint16(nil, channel), uint32Bytes(uint32(len(p))), p, []byte{0xCE})
}

func uint32Bytes(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func shortString(s string) []byte { return append([]byte{byte(len(s))}, s...) }

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
			deleted := slices.Contains(sent, queueDelete)
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
			if taken := slices.Contains(sent, basicGet) && c.hasMessage; taken && !slices.Contains(sent, "basic.nack") {
				t.Error("the message was not given back")
			}
		})
	}
}
