package publishcases

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// heartbeat is the type of a heartbeat's frame.
const heartbeat = 8

// knownPoison never leaves this process, however often it is tried.
func knownPoison(s *stand) {
	s.open(producer.Config{MaxMessageSize: 1000})
	s.verdict(s.publish("before")[0], producer.Confirmed)
	publishes := s.counts(mqtest.Received, "basic.publish")
	began := s.Journal().Records()
	last := began[len(began)-1].Seq
	long := strings.Repeat("é", 127) + "xx" // 256 bytes
	kinds := map[string]func(*producer.Message){
		"Exchange":         func(m *producer.Message) { m.Exchange = long },
		"RoutingKey":       func(m *producer.Message) { m.RoutingKey = long },
		"ContentType":      func(m *producer.Message) { m.ContentType = long },
		"ContentEncoding":  func(m *producer.Message) { m.ContentEncoding = long },
		"CorrelationID":    func(m *producer.Message) { m.CorrelationID = long },
		"ReplyTo":          func(m *producer.Message) { m.ReplyTo = long },
		"MessageID":        func(m *producer.Message) { m.MessageID = long },
		"Type":             func(m *producer.Message) { m.Type = long },
		"UserID":           func(m *producer.Message) { m.UserID = long },
		"AppID":            func(m *producer.Message) { m.AppID = long },
		"Expiration":       func(m *producer.Message) { m.Expiration = "1s" },
		"Expiration/minus": func(m *producer.Message) { m.Expiration = "-1" },
		"Expiration/long":  func(m *producer.Message) { m.Expiration = "315360000001" },
		"Timestamp":        func(m *producer.Message) { m.Timestamp = time.Unix(-1, 0) },
		"Body":             func(m *producer.Message) { m.Body = make([]byte, 1001) },
		"Headers":          func(m *producer.Message) { m.Headers = amqp.Table{"n": uint64(1)} },
		"Headers/uint":     func(m *producer.Message) { m.Headers = amqp.Table{"n": uint(1)} },
		"Headers/type":     func(m *producer.Message) { m.Headers = amqp.Table{"n": []string{"x"}} },
		"Headers/name":     func(m *producer.Message) { m.Headers = amqp.Table{long: 1} },
		"Headers/deep":     func(m *producer.Message) { m.Headers = amqp.Table{"t": []any{amqp.Table{"n": uint64(1)}}} },
		"Headers/number":   func(m *producer.Message) { m.Headers = amqp.Table{"n": math.NaN()} },
		"Headers/frame":    func(m *producer.Message) { m.Headers = amqp.Table{"s": strings.Repeat("x", 128<<10)} },
		"Headers/frames": func(m *producer.Message) {
			m.Headers = amqp.Table{}
			for i := range 1000 {
				m.Headers[fmt.Sprint(i)] = strings.Repeat("x", 200)
			}
		},
	}
	for name, spoil := range kinds {
		field, _, _ := strings.Cut(name, "/")
		for range 2 {
			m := s.text("poison")
			spoil(&m)
			_, err := s.PublishAsync(s.t.Context(), m)
			var refused *producer.RefusedError
			if producer.VerdictOf(err) != producer.Refused || !errors.As(err, &refused) || refused.Field != field || refused.Err != nil || !producer.SafeToRetry(err) {
				s.t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, r := range s.Journal().Since(last) {
		if r.Kind == mqtest.FromClient && r.Frame[0] != heartbeat {
			s.t.Errorf("on the wire: %v", r)
		}
	}
	s.verdict(s.publish("after")[0], producer.Confirmed)
	if n := publishes.Hits(); n != 1 {
		s.t.Errorf("%d messages were sent, want one", n)
	}
	if n := len(s.pool.Status(reconnect.Publishing).Address); n == 0 || s.pool.Status(reconnect.Publishing).Sessions != 1 {
		s.t.Errorf("%+v: want the first connection", s.pool.Status(reconnect.Publishing))
	}
	if got := s.Stats(); got.Refused != uint64(2*len(kinds)) || got.InFlight != 0 {
		s.t.Errorf("%+v, want %d refused", got, 2*len(kinds))
	}
	s.holds("before", "after")
}

func tooLarge(s *stand) {
	s.open(producer.Config{MaxInFlightBytes: 1 << 30})
	s.poisoned(406, func(m *producer.Message) { m.Body = make([]byte, s.Largest+1) }, nil)
	// What the broker takes is known now.
	m := s.text("again")
	m.Body = make([]byte, s.Largest+1)
	_, err := s.PublishAsync(s.t.Context(), m)
	var refused *producer.RefusedError
	if !errors.As(err, &refused) || refused.Field != "Body" || refused.Err != nil {
		s.t.Errorf("once more: %v", err)
	}
}

func foreignUser(s *stand) {
	s.open(producer.Config{})
	s.poisoned(406, func(m *producer.Message) { m.UserID = "somebody else" }, nil)
}

func notPermitted(s *stand) {
	exchange := s.exchange()
	s.Deny(s.t, exchange)
	s.open(producer.Config{})
	s.poisoned(403, func(m *producer.Message) { m.Exchange = exchange }, nil)
}

// deletedExchange: it was there when the messages were published, and when one before
// them was confirmed.
func deletedExchange(s *stand) {
	s.open(producer.Config{})
	exchange := s.exchange()
	s.must(s.admin().QueueBind(s.queue, s.queue, exchange, false, nil))
	s.verdict(s.message(s.text("before").To(exchange, s.queue)), producer.Confirmed)
	s.poisoned(404, func(m *producer.Message) { m.Exchange = exchange }, func() {
		s.must(s.admin().ExchangeDelete(exchange, false, false))
	}, "before")
}

// exchange makes one.
func (s *stand) exchange() string {
	s.t.Helper()
	name := s.queue + ".exchange"
	s.must(s.admin().ExchangeDeclare(name, amqp.ExchangeDirect, true, false, false, false, nil))
	s.t.Cleanup(func() { s.must(s.admin().ExchangeDelete(name, false, false)) })
	return name
}

// poisoned has a thousand messages in flight, two of which the broker will not take, and
// then has it see them. The first hundred it has stored without the producer knowing.
func (s *stand) poisoned(code int, spoil func(*producer.Message), meanwhile func(), before ...string) {
	s.t.Helper()
	const n, unheard = 1000, 100
	culprits := map[int]bool{n / 2: true, n/2 + 200: true}
	held := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Count: 1, Do: mqtest.Hold()})
	lost := s.unconfirmed(unheard)
	closes := s.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close", If: func(e *mqtest.Event) bool {
		got, _ := e.Field("reply-code").(uint16)
		return int(got) == code
	}})
	var cs []*producer.Confirmation
	ids := numbered("", n)
	sent := len(before)
	for i, id := range ids {
		m := s.text(id)
		if culprits[i] {
			spoil(&m)
		}
		cs = append(cs, s.message(m))
	}
	s.handed(sent + n)
	s.struck(held)
	if got := s.Stats().InFlight; got != n {
		s.t.Fatalf("%d are in flight, want %d", got, n)
	}
	if meanwhile != nil {
		meanwhile()
	}
	held.Release()
	for i, c := range cs {
		if !culprits[i] {
			s.verdict(c, producer.Confirmed)
			continue
		}
		err := s.verdict(c, producer.Refused)
		var told *reconnect.BrokerError
		if !errors.As(err, &told) || told.Code != code {
			s.t.Errorf("message %d: %v, want the broker's %d", i, err, code)
		}
	}
	s.struck(lost)
	if got := closes.Hits(); got != 3 { // for one of both, and then for each alone
		s.t.Errorf("the broker closed %d channels with %d, want 3", got, code)
	}
	if got := s.pool.Status(reconnect.Publishing).Sessions; got != 1 {
		s.t.Errorf("there were %d connections, want one", got)
	}
	stored := s.stored()
	for _, id := range before {
		if stored[id] != 1 {
			s.t.Errorf("%q is stored %d times", id, stored[id])
		}
		delete(stored, id)
	}
	copies := 0
	for i, id := range ids {
		times, handed := stored[id], s.timesHanded(id)
		least := 1
		switch {
		case culprits[i]:
			if times > 0 {
				s.t.Errorf("the culprit %s is stored", id)
			}
			continue
		case i < unheard:
			least = 2
		}
		if times < least || times > handed {
			s.t.Errorf("message %s was handed over %d times and is stored %d times, want %d or more", id, handed, times, least)
		}
		copies += times - 1
		delete(stored, id)
	}
	if len(stored) > 0 {
		s.t.Errorf("stored, and not a neighbour: %v", differences(stored, nil))
	}
	if again := int(s.Stats().Republished); copies > again || s.Stats().Refused != 2 || s.Stats().InFlight != 0 {
		s.t.Errorf("%d copies: %+v", copies, s.Stats())
	}
	s.t.Logf("%d neighbours, %d sent again, %d stored twice or more", n-len(culprits), s.Stats().Republished, copies)
}
