package faultcases

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing" //nolint:depguard // only tests import this package
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// Stand is what a case runs on.
type Stand struct {
	*mqtest.Stage        // where the client connects
	Direct        string // the URL of the broker itself
	Patient       bool   // cases that wait for heartbeats, for seconds, are run too
}

// Run runs all cases side by side, each on a stand of its own.
func Run(t *testing.T, open func(t *testing.T) Stand) {
	for _, group := range []struct {
		name string
		run  func(*testing.T, starter)
	}{
		{"connecting", connecting},
		{"connection", connection},
		{"channel", channel},
		{"publish", publish},
		{"delivery", delivery},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			group.run(t, func(t *testing.T, name string, f func(*stand)) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					f(begin(t, open(t)))
				})
			})
		})
	}
}

// starter runs one case.
type starter func(t *testing.T, name string, f func(*stand))

// within bounds what a case waits for. It is far more than anything here takes.
const within = time.Minute

type stand struct {
	Stand
	t        *testing.T
	queue    string // is there, and empty
	observer *amqp.Connection
	direct   *amqp.Channel // the observer's
}

// observer is the name of the connection that goes past the stage, or, where that
// is the broker's own, that no case harms.
const observer = "observer"

func begin(t *testing.T, open Stand) *stand {
	t.Helper()
	s := &stand{Stand: open, t: t, queue: "mqkit." + rand.Text()}
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(observer)
	var err error
	s.observer, err = amqp.DialConfig(open.Direct, amqp.Config{Properties: properties, Heartbeat: 10 * time.Second})
	s.must(err)
	s.direct, err = s.observer.Channel()
	s.must(err)
	s.must(s.direct.Confirm(false))
	s.declare(s.direct, s.queue)
	t.Cleanup(func() {
		for _, q := range []string{s.queue, s.other()} {
			if _, err := s.direct.QueueDelete(q, false, false, false); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
		if err := s.observer.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// other is the name of a queue that is not there until a case declares it.
func (s *stand) other() string { return s.queue + ".other" }

func (s *stand) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) declare(ch *amqp.Channel, queue string) {
	s.t.Helper()
	_, err := ch.QueueDeclare(queue, true, false, false, false, nil)
	s.must(err)
}

// put publishes past the stage.
func (s *stand) put(bodies ...string) {
	s.t.Helper()
	for _, body := range bodies {
		m := amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent}
		c, err := s.direct.PublishWithDeferredConfirm("", s.queue, false, false, m)
		s.must(err)
		receive(s.t, c.Done())
		if !c.Acked() {
			s.t.Fatal("not confirmed")
		}
	}
}

// theEnd is put behind everything that a case has sent.
const theEnd = "the end"

// holds takes everything out of the queue and compares it with bodies in order,
// each with a star behind it if it was delivered before.
func (s *stand) holds(want string) {
	s.t.Helper()
	s.put(theEnd)
	in, err := s.direct.Consume(s.queue, "", true, false, false, false, nil)
	s.must(err)
	got, ended := []string{}, false
	for !ended || len(got) < len(strings.Fields(want)) { // what a lost client gives back may come late
		d, ok := receive(s.t, in)
		if !ok {
			s.t.Fatalf("the queue has %v, and is gone", got)
		}
		body := string(d.Body)
		if body == theEnd {
			ended = true
			continue
		}
		if d.Redelivered {
			body += "*"
		}
		got = append(got, body)
	}
	if !slices.Equal(got, strings.Fields(want)) {
		s.t.Errorf("the queue has %v, want [%s]", got, want)
	}
}

// struck waits for a fault and checks how often it has struck.
func (s *stand) struck(in *mqtest.Injected, times int) {
	s.t.Helper()
	if err := in.Wait(bounded(s.t)); err != nil {
		s.t.Fatalf("the fault has not struck: %v", err)
	}
	if n := in.Hits(); n != times {
		s.t.Errorf("the fault has struck %d times, not %d", n, times)
	}
}
