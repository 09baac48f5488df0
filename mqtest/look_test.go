package mqtest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

func TestTheLooksSayWhatAClientHasDeclared(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	b.AddVhost("v", "quorum")
	c := connectTo(t, b, "/v")
	for _, err := range []error{
		c.ch.ExchangeDeclare("e", "topic", true, false, false, false, amqp.Table{"alternate-exchange": "f"}),
		c.ch.ExchangeDeclare("f", "fanout", false, true, true, false, nil),
		c.ch.ExchangeBind("f", "a.*", "e", false, amqp.Table{"k": int32(1)}),
		second(c.ch.QueueDeclare("q", true, false, false, false, amqp.Table{"x-delivery-limit": int64(3)})),
		second(c.ch.QueueDeclare("x", false, true, true, false, amqp.Table{"x-queue-type": "classic"})),
		c.ch.QueueBind("q", "b.#", "e", false, nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}

	have := b.Exchanges("v")
	if have[0].Name != "" || have[0].Type != "direct" || !have[0].Durable {
		t.Errorf("the first exchange is %+v, want the default one", have[0])
	}
	have = slices.DeleteFunc(have, func(e mqtest.Exchange) bool { return e.Name == "" || strings.HasPrefix(e.Name, "amq.") })
	equal(t, "exchanges", have, []mqtest.Exchange{
		{Name: "e", Type: "topic", Durable: true, Arguments: map[string]any{"alternate-exchange": "f"}},
		{Name: "f", Type: "fanout", AutoDelete: true, Internal: true},
	})
	equal(t, "bindings", b.Bindings("v"), []mqtest.Binding{
		{Source: "e", Destination: "f", ToExchange: true, RoutingKey: "a.*", Arguments: map[string]any{"k": int32(1)}},
		{Source: "e", Destination: "q", RoutingKey: "b.#"},
	})
	equal(t, "queues", b.Queues("v"), []mqtest.QueueInfo{
		{Name: "q", Type: "quorum", Durable: true, Arguments: map[string]any{"x-delivery-limit": int64(3), "x-queue-type": "quorum"}},
		{Name: "x", Type: "classic", AutoDelete: true, Exclusive: true, Arguments: map[string]any{"x-queue-type": "classic"}},
	})
	if b.Queue("q").Exists() {
		t.Error(`a queue of vhost "v" is seen in "/"`)
	}

	if !b.DeleteVhost("v") || b.DeleteVhost("v") {
		t.Error("a vhost is not deleted once")
	}
	if err := c.lost(); err == nil {
		t.Error("the connection to a deleted vhost lives")
	}
	if len(b.Exchanges("v")) != 0 || b.QueueIn("v", "q").Exists() {
		t.Error("something is left of a deleted vhost")
	}
}

func TestTheLooksSayWhoConsumesAndWhatIsHeld(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	c := connect(t, b.Stage)
	if _, err := c.ch.QueueDeclare("q", true, false, false, false, amqp.Table{"x-single-active-consumer": true}); err != nil {
		t.Fatal(err)
	}
	b.Queue("q").Enqueue(mqtest.Message{Body: []byte("four")}, mqtest.Message{Body: []byte("three")})
	if err := c.ch.Qos(1, 0, false); err != nil {
		t.Fatal(err)
	}
	deliveries, err := c.ch.Consume("q", "first", false, false, false, false, amqp.Table{"x-priority": int32(7)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ch.Consume("q", "second", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	receive(t, deliveries)
	conn := b.Connections()[0]
	equal(t, "consumers", b.Consumers("/"), []mqtest.Consumer{
		{
			Queue: "q", Tag: "first", Conn: conn.ID(), Channel: 1, Prefetch: 1, Priority: 7, Active: true, Unacked: 1,
			Arguments: map[string]any{"x-priority": int32(7)},
		},
		{Queue: "q", Tag: "second", Conn: conn.ID(), Channel: 1, NoAck: true, Prefetch: 1},
	})
	equal(t, "queue", b.Queue("q").Info(), mqtest.QueueInfo{
		Name: "q", Type: "classic", Durable: true, Ready: 1, Unacked: 1, Bytes: 9, Consumers: 2,
		Arguments: map[string]any{"x-single-active-consumer": true},
	})
	if conn.RemoteAddr().String() != "peer of mqtest" {
		t.Errorf("the connection is from %v", conn.RemoteAddr())
	}
}

func TestAMessageIsSeenWithAllThatItWasPublishedWith(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		c := connect(t, b.Stage)
		c.declare("q")
		at := time.Now().Truncate(time.Second)
		err := c.ch.PublishWithContext(t.Context(), "amq.direct", "key", false, false, amqp.Publishing{})
		if err == nil {
			err = c.ch.QueueBind("q", "key", "amq.direct", false, nil)
		}
		if err == nil {
			err = c.ch.PublishWithContext(t.Context(), "amq.direct", "key", false, false, amqp.Publishing{
				Headers: amqp.Table{"h": "v"}, ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: amqp.Transient,
				Priority: 3, CorrelationId: "c", ReplyTo: "r", Expiration: "60000", MessageId: "m", Timestamp: at, Type: "t",
				UserId: "guest", AppId: "a", Body: []byte("body"),
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		c.verdicts(2)
		want := mqtest.Message{
			Exchange: "amq.direct", RoutingKey: "key", Body: []byte("body"), Headers: map[string]any{"h": "v"},
			ContentType: "text/plain", ContentEncoding: "utf-8", Transient: true, Priority: 3, CorrelationID: "c", ReplyTo: "r",
			Expiration: "60000", MessageID: "m", Timestamp: at, Type: "t", UserID: "guest", AppID: "a", Expires: time.Now().Add(time.Minute),
		}
		got := b.Queue("q").Messages()
		if len(got) != 1 {
			t.Fatalf("%d messages", len(got))
		}
		got[0].Timestamp = got[0].Timestamp.Local()
		equal(t, "message", got[0], want)

		// What is seen can be put in again, and then it is the same message.
		b.Queue("q").Purge()
		again := got[0]
		if again.Expiration = ""; !b.Queue("q").Enqueue(again) {
			t.Fatal("not taken")
		}
		again.Exchange, again.RoutingKey, again.Expires = "", "q", time.Time{} // as a publish to the default exchange
		back := b.Queue("q").Messages()[0]
		back.Timestamp = back.Timestamp.Local()
		equal(t, "message put in", back, again)
	})
}

func TestAMessageThatDelayedRetryHoldsBackIsSeenAsDelayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		c := connect(t, b.Stage)
		_, err := c.ch.QueueDeclare("q", true, false, false, false, amqp.Table{
			"x-queue-type": "quorum", "x-delayed-retry-type": "all", "x-delayed-retry-min": int64(10_000),
		})
		if err != nil {
			t.Fatal(err)
		}
		c.publish("q", "a")
		c.verdicts(1)
		d, _, err := c.ch.Get("q", false)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Nack(false, true); err != nil {
			t.Fatal(err)
		}
		c.settled()
		if got := b.Queue("q").Messages(); len(got) != 1 || !got[0].Delayed {
			t.Errorf("%+v, want one that is delayed", got)
		}
		<-time.After(11 * time.Second)
		if got := b.Queue("q").Messages(); len(got) != 1 || got[0].Delayed {
			t.Errorf("after the delay %+v, want one that is not", got)
		}
	})
}

func TestTheJournalTellsTheLifeOfAMessage(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	c := connect(t, b.Stage)
	c.declare("q")
	counted := b.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish"})
	c.publish("q", "id-and-body")
	c.verdicts(1)
	deliveries, err := c.ch.Consume("q", "tag", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := receive(t, deliveries)
	if err := d.Reject(true); err != nil {
		t.Fatal(err)
	}
	d, _ = receive(t, deliveries)
	if err := d.Ack(false); err != nil {
		t.Fatal(err)
	}
	c.settled()
	b.Connections()[0].Do(mqtest.CloseConnection(320, "CONNECTION_FORCED - enough"))
	c.lost()
	b.Stop() // which waits for the end of the connection
	hit(t, counted, 1)

	var life []string
	kinds := map[mqtest.Kind]int{}
	for _, r := range b.Journal().Records() {
		kinds[r.Kind]++
		if (r.Kind == mqtest.ConnectionOpened || r.Kind == mqtest.ConnectionEnded) && r.Conn != 1 {
			t.Errorf("%v is about connection %d", r, r.Conn)
		}
		if r.Kind == mqtest.ConnectionEnded && r.Detail == "" {
			t.Error("the end has no reason")
		}
		if r.Kind == mqtest.FromClient && r.Method() == "basic.publish" && r.Channel != 1 {
			t.Errorf("%v is about channel %d", r, r.Channel)
		}
		if r.Kind != mqtest.QueueEvent || r.Queue != "q" || r.Vhost != "/" {
			continue
		}
		switch r.Detail {
		case "enqueued":
			if string(r.Body) != "id-and-body" || r.MessageID != "id-and-body" || r.RoutingKey != "q" || r.Exchange != "" {
				t.Errorf("enqueued: %+v", r)
			}
		case "delivered":
			if r.ConsumerTag != "tag" || r.Redelivered != (r.Tag == 2) {
				t.Errorf("delivered: %+v", r)
			}
		case "requeued":
			if r.Reason != "rejected" {
				t.Errorf("requeued: %+v", r)
			}
		case "consumer-removed":
			if r.Reason != "closed" {
				t.Errorf("removed: %+v", r)
			}
		}
		life = append(life, r.Detail)
	}
	want := "queue-declared enqueued consumer-added delivered requeued delivered acked consumer-removed"
	if got := strings.Join(life, " "); got != want {
		t.Errorf("life is\n%s\nwant\n%s", got, want)
	}
	for kind, n := range map[mqtest.Kind]int{mqtest.ConnectionOpened: 1, mqtest.ConnectionEnded: 1, mqtest.FaultStruck: 1} {
		if kinds[kind] != n {
			t.Errorf("%d of kind %v, want %d", kinds[kind], kind, n)
		}
	}
}

func TestAnEventNamesTheQueueAndPrintsItself(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	seen := make(chan *mqtest.Event, 1)
	b.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "basic.deliver", If: func(e *mqtest.Event) bool {
		seen <- e
		return false
	}, Count: 1})
	c := connect(t, b.Stage)
	c.declare("q")
	if _, err := c.ch.Consume("q", "tag", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	c.publish("q", "body")
	e, _ := receive(t, seen)
	if e.Queue != "q" || e.ConsumerTag != "tag" || string(e.Body) != "body" {
		t.Errorf("%+v", e)
	}
	for _, part := range []string{"sending", "basic.deliver", "tag"} {
		if !strings.Contains(e.String(), part) {
			t.Errorf("%q does not say %q", e, part)
		}
	}
	if s := mqtest.Pass().Then(mqtest.CutInside(3)).String(); !strings.Contains(s, "cut") {
		t.Errorf("the action prints as %q", s)
	}
}

func TestALoginHasTheClientsProperties(t *testing.T) {
	t.Parallel()
	logins := make(chan mqtest.Login, 1)
	b := mqtest.NewInMemory(t, mqtest.Config{
		Heartbeat: 7 * time.Second, DenyTransientQueues: true,
		Authenticate: func(l mqtest.Login) error { logins <- l; return nil },
	})
	conn, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: b.Dial, Properties: amqp.Table{"connection_name": "me"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l, _ := receive(t, logins)
	if l.Mechanism != "PLAIN" || l.User != "guest" || l.Password != "guest" || l.Properties["connection_name"] != "me" {
		t.Errorf("login %+v", l)
	}
	if name := b.Connections()[0].Name(); name != "me" {
		t.Errorf("the connection is called %q", name)
	}
	if conn.Config.Heartbeat != 7*time.Second {
		t.Errorf("heartbeat %v, want what the broker offers", conn.Config.Heartbeat)
	}
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ch.QueueDeclare("transient", false, false, false, false, nil)
	if e := (&amqp.Error{}); !errors.As(err, &e) || e.Code != 541 {
		t.Errorf("a transient queue gets %v, want 541", err)
	}
}

// lifecycle is a test that takes its cleanups and what it logs, and has failed.
type lifecycle struct {
	testing.TB

	cleanups []func()
	logged   []string
}

func (l *lifecycle) Cleanup(f func()) { l.cleanups = append(l.cleanups, f) }
func (l *lifecycle) Failed() bool     { return true }
func (l *lifecycle) Logf(format string, args ...any) {
	l.logged = append(l.logged, fmt.Sprintf(format, args...))
}

func TestABrokerEndsWithItsTestAndAFailedOneGetsTheJournal(t *testing.T) {
	t.Parallel()
	l := &lifecycle{TB: t}
	b := mqtest.New(l)
	c := connect(t, b.Stage)
	c.declare("seen-in-the-log")
	for _, f := range l.cleanups {
		f()
	}
	c.lost()
	if got := strings.Join(l.logged, "\n"); !strings.Contains(got, "seen-in-the-log") {
		t.Errorf("the log of the failed test has no journal:\n%s", got)
	}
	if err := b.Restart(); !errors.Is(err, mqtest.ErrClosed) {
		t.Errorf("restarted after its end: %v, want ErrClosed", err)
	}
	if err := b.AcceptConnections(); !errors.Is(err, mqtest.ErrClosed) {
		t.Errorf("accepts after its end: %v, want ErrClosed", err)
	}
}

func TestAProxyListensWhereItIsToldAndKeepsAJournal(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	first, err := mqtest.StartProxy(b.URL(), mqtest.ProxyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	addr := first.Addr()
	if first.Journal() != nil {
		t.Error("a proxy that was not asked for a journal keeps one")
	}
	first.Close()
	p, err := mqtest.StartProxy(b.URL(), mqtest.ProxyConfig{Listen: addr, Journal: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	connect(t, p.Stage).declare("q")
	if p.Addr() != addr {
		t.Errorf("listens on %s, want %s", p.Addr(), addr)
	}
	if n := len(p.Journal().Records()); n != 5 {
		t.Errorf("keeps %d records, want 5", n)
	}
}

func connectTo(t *testing.T, b *mqtest.Broker, path string) *client {
	t.Helper()
	conn, err := amqp.DialConfig(strings.TrimSuffix(b.URL(), "/")+path, amqp.Config{Dial: b.Dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) })
	c := &client{t: t, conn: conn, connClosed: conn.NotifyClose(make(chan *amqp.Error, 1))}
	c.open()
	return c
}

func second[T any](_ T, err error) error { return err }

// equal compares what the looks return; a map without keys is as good as none.
func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s:\n%s\nwant\n%s", what, g, w)
	}
}
