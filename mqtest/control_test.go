package mqtest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

func TestRestartKeepsWhatIsDurable(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	c := connect(t, b.Stage)
	c.declare("durable")
	if _, err := c.ch.QueueDeclare("transient", false, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	c.publish("durable", "kept")
	c.verdicts(1)
	b.Queue("durable").Enqueue(mqtest.Message{Body: []byte("lost"), Transient: true})
	url := b.URL()
	if err := b.Restart(); err != nil {
		t.Fatal(err)
	}
	c.lost()
	if b.URL() != url {
		t.Errorf("moved from %s to %s", url, b.URL())
	}
	if b.Queue("transient").Exists() {
		t.Error("a transient queue was kept")
	}
	same(t, "durable queue", b.Queue("durable").Bodies(), []string{"kept"})
	c = connect(t, b.Stage)
	c.publish("durable", "more")
	c.verdicts(1)
}

func TestStopEndsThoughConnectionsAreAcceptedMeanwhile(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	c := connect(t, b.Stage)
	busy, done := make(chan struct{}), make(chan struct{})
	b.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.qos", Count: 1, If: func(*mqtest.Event) bool {
		close(busy)
		<-done
		return true
	}})
	go func() { _ = c.ch.Qos(1, 0, false) }()
	receive(t, busy)
	stopped, accepted := make(chan struct{}), make(chan error, 1)
	go func() { b.Stop(); close(stopped) }()
	for attempt(b.Stage) == nil { // until it is stopping, and waits for the connection
		runtime.Gosched()
	}
	go func() { accepted <- b.AcceptConnections() }()
	select {
	case err := <-accepted:
		t.Errorf("it accepts connections before it has stopped: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(done)
	receive(t, stopped)
	if err, _ := receive(t, accepted); err != nil {
		t.Error(err)
	}
	c = connect(t, b.Stage)
	b.Stop() // again
	c.lost()
	if n := len(b.Connections()); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestNothingStartsAgainAfterClose(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]*mqtest.Broker{"port": mqtest.New(t), "memory": mqtest.NewInMemory(t)} {
		b.Close()
		for what, again := range map[string]func() error{"AcceptConnections": b.AcceptConnections, "Restart": b.Restart} {
			if err := again(); !errors.Is(err, mqtest.ErrClosed) {
				t.Errorf("%s: %s returns %v", name, what, err)
			}
		}
		if conn, err := b.Dial("", ""); err == nil {
			_ = conn.Close()
			t.Errorf("%s: somebody has been let in", name)
		}
	}
}

func TestAProxyKeepsItsPortWhenTheBrokerMoves(t *testing.T) {
	t.Parallel()
	first, second := mqtest.New(t), mqtest.New(t)
	p := mqtest.NewProxy(t, first.URL())
	c := connect(t, p.Stage)
	c.declare("q")
	first.Stop()
	c.lost()
	if err := attempt(p.Stage); err == nil {
		t.Error("connected to nothing")
	}
	if err := p.SetUpstream(second.URL()); err != nil {
		t.Fatal(err)
	}
	c = connect(t, p.Stage)
	c.declare("q")
	if !second.Queue("q").Exists() {
		t.Error("the second broker has no queue")
	}
}

func TestTheSecondURLAlone(t *testing.T) {
	t.Parallel()
	brokers := []*mqtest.Broker{mqtest.New(t), mqtest.New(t)}
	reached := func() *mqtest.Broker {
		for _, b := range brokers {
			err := attempt(b.Stage)
			if err == nil {
				return b
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("got %v", err)
			}
		}
		return nil
	}
	c := connect(t, brokers[0].Stage)
	brokers[0].RefuseConnections()
	if n := brokers[0].DropConnections(); n != 1 {
		t.Errorf("%d connections dropped", n)
	}
	c.lost()
	if got := reached(); got != brokers[1] {
		t.Errorf("reached %v", got)
	}
	if err := brokers[0].AcceptConnections(); err != nil {
		t.Fatal(err)
	}
	brokers[1].Stop()
	if got := reached(); got != brokers[0] {
		t.Errorf("reached %v", got)
	}
}

// failures is a test that takes note of its failures.
type failures struct {
	testing.TB

	mu   sync.Mutex // guards what follows
	list []string
}

func (f *failures) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

func TestStrictFailsTheTestForWhatRabbitMQWouldIgnore(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		ask  func(ch *amqp.Channel, args amqp.Table) error
		args amqp.Table
		want string
	}{
		"queue":           {declareQueue, amqp.Table{"x-mesage-ttl": 1000}, "x-mesage-ttl"},
		"queue, known":    {declareQueue, amqp.Table{"x-message-ttl": 1000, "mine": true}, ""},
		"exchange":        {declareExchange, amqp.Table{"x-alternate": "y"}, "x-alternate"},
		"exchange, known": {declareExchange, amqp.Table{"alternate-exchange": "y"}, ""},
		"binding":         {bindHeaders, amqp.Table{"x-mach": "any", "a": "b"}, "x-mach"},
		"binding, known":  {bindHeaders, amqp.Table{"x-match": "any", "a": "b"}, ""},
		"consumer":        {consume, amqp.Table{"x-prio": 1}, "x-prio"},
		"consumer, known": {consume, amqp.Table{"x-priority": 1}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &failures{TB: t}
			b := mqtest.New(f, mqtest.Config{Strict: true})
			c := connect(t, b.Stage)
			if err := x.ask(c.ch, x.args); err != nil {
				t.Error(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if got := strings.Join(f.list, " "); (got == "") != (x.want == "") || !strings.Contains(got, x.want) {
				t.Errorf("failed with %q, want %q in it", got, x.want)
			}
		})
	}
}

func declareQueue(ch *amqp.Channel, args amqp.Table) error {
	_, err := ch.QueueDeclare("q", true, false, false, false, args)
	return err
}

func declareExchange(ch *amqp.Channel, args amqp.Table) error {
	return ch.ExchangeDeclare("x", "topic", true, false, false, false, args)
}

func bindHeaders(ch *amqp.Channel, args amqp.Table) error {
	if err := declareQueue(ch, nil); err != nil {
		return err
	}
	return ch.QueueBind("q", "", "amq.headers", false, args)
}

func consume(ch *amqp.Channel, args amqp.Table) error {
	if err := declareQueue(ch, nil); err != nil {
		return err
	}
	_, err := ch.Consume("q", "", false, false, false, false, args)
	return err
}

func TestBlockedAndUnblocked(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	c := connect(t, b.Stage)
	c.declare("q")
	blocked := c.conn.NotifyBlocked(make(chan amqp.Blocking, 2))
	b.Block("")
	c.publish("q", "told of it", "waits")
	if x, _ := receive(t, blocked); !x.Active || x.Reason != "low on memory" {
		t.Errorf("got %+v", x)
	}
	late := connect(t, b.Stage) // while it lasts
	lateBlocked := late.conn.NotifyBlocked(make(chan amqp.Blocking, 2))
	late.publish("q", "too")
	if x, _ := receive(t, lateBlocked); !x.Active {
		t.Errorf("got %+v", x)
	}
	same(t, "queue", b.Queue("q").Bodies(), nil)
	b.Unblock()
	if x, _ := receive(t, blocked); x.Active {
		t.Errorf("got %+v", x)
	}
	same(t, "verdicts", c.verdicts(2), []string{"1+", "2+"})
	same(t, "verdicts of the late one", late.verdicts(1), []string{"1+"})
	after := connect(t, b.Stage)
	after.publish("q", "x")
	same(t, "verdicts afterwards", after.verdicts(1), []string{"1+"})
}

func TestControlSeesAndTouches(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	c := connect(t, b.Stage)
	c.declare("q")
	if err := c.ch.QueueBind("q", "key", "amq.topic", false, nil); err != nil {
		t.Fatal(err)
	}
	in := mqtest.Message{
		Body: []byte("x"), Headers: map[string]any{"a": int64(1), "b": []any{"c"}}, MessageID: "id",
		ContentType: "text/plain", Priority: 3, Timestamp: time.Unix(1e9, 0).UTC(),
	}
	if !b.Queue("q").Enqueue(in) || b.Queue("none").Enqueue(in) {
		t.Error("enqueued where it should not be, or not where it should")
	}
	m := b.Queue("q").Messages()[0]
	if string(m.Body) != "x" || m.Headers["a"] != int64(1) || m.MessageID != "id" || m.Priority != 3 || m.Transient ||
		!m.Timestamp.Equal(in.Timestamp) {
		t.Errorf("in the queue: %+v", m)
	}
	if x := b.Bindings("/"); len(x) != 1 || x[0].Source != "amq.topic" || x[0].Destination != "q" || x[0].RoutingKey != "key" {
		t.Errorf("bindings: %+v", x)
	}
	deliveries, err := c.ch.Consume("q", "tag", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, deliveries)
	if x := b.Consumers("/"); len(x) != 1 || x[0].Queue != "q" || x[0].Tag != "tag" || x[0].Conn != 1 || x[0].Unacked != 1 {
		t.Errorf("consumers: %+v", x)
	}
	if x := b.Connections(); len(x) != 1 || x[0].Vhost() != "/" || len(x[0].Channels()) != 1 {
		t.Errorf("connections: %+v", x)
	}
	cancelled := c.ch.NotifyCancel(make(chan string, 1))
	if n := b.Queue("q").CancelConsumers(); n != 1 {
		t.Errorf("%d consumers cancelled", n)
	}
	receive(t, cancelled)
	if !b.Queue("q").Delete() || b.Queue("q").Exists() {
		t.Error("the queue is still there")
	}
}

func TestUsersAndHooks(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t, mqtest.Config{
		Users: map[string]string{"app": "secret"}, Vhosts: []string{"shop"},
		Authorize: func(user, vhost string) error { return nil },
	})
	if want := "amqp://app:secret@" + b.Addr() + "/shop"; b.URL() != want {
		t.Errorf("URL is %s, want %s", b.URL(), want)
	}
	connect(t, b.Stage)
	if _, err := amqp.Dial(strings.Replace(b.URL(), "secret", "wrong", 1)); err == nil {
		t.Error("let in with a wrong password")
	}
	for _, r := range b.Journal().Records() {
		if strings.Contains(r.String(), "secret") {
			t.Errorf("the journal shows a password: %v", r)
		}
	}
}

func TestQueueLooksWhereTheURLLeads(t *testing.T) {
	t.Parallel()
	for _, vhosts := range [][]string{nil, {"shop"}, {"a/b", "shop"}, {"shop", "/"}} {
		b := mqtest.New(t, mqtest.Config{Vhosts: vhosts})
		c := connect(t, b.Stage)
		c.declare("q")
		if !b.Queue("q").Exists() {
			t.Errorf("%v: no queue where %s leads", vhosts, b.URL())
		}
	}
}

func TestAConfigThatNoClientCouldFollowIsRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		cfg  mqtest.Config
		want []string
	}{
		"frame too small":       {mqtest.Config{FrameMax: 4096}, []string{"FrameMax is 4096", "at least 8192"}},
		"least frame":           {mqtest.Config{FrameMax: 8192}, nil},
		"heartbeat below 1 s":   {mqtest.Config{Heartbeat: 500 * time.Millisecond}, []string{"Heartbeat is 500ms", "whole seconds"}},
		"heartbeat between two": {mqtest.Config{Heartbeat: 1500 * time.Millisecond}, []string{"Heartbeat is 1.5s"}},
		"heartbeat too long":    {mqtest.Config{Heartbeat: 24 * time.Hour}, []string{"Heartbeat is 24h", "65535"}},
		"least heartbeat":       {mqtest.Config{Heartbeat: time.Second}, nil},
		"no heartbeat":          {mqtest.Config{Heartbeat: -1}, nil},
		"both": {
			mqtest.Config{FrameMax: 1, Heartbeat: 1},
			[]string{"FrameMax is 1", "Heartbeat is 1ns"},
		},
	} {
		b, err := mqtest.Start(x.cfg)
		if err == nil {
			b.Close()
		}
		if (err != nil) != (x.want != nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range x.want {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: %v, want %q in it", name, err, want)
			}
		}
	}
}

func TestTheJournalTellsTheStory(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t, mqtest.Config{Journal: -1})
	c := connect(t, b.Stage)
	c.declare("q")
	mark := len(b.Journal().Records())
	b.Inject(mqtest.Fault{Point: mqtest.Received, MessageID: "lost", Do: mqtest.Nack()})
	c.publish("q", "a", "lost")
	c.verdicts(2)
	c.settled()
	seen := map[string]int{}
	for _, r := range b.Journal().Since(uint64(mark)) {
		what := r.Kind.String() + " " + r.Method()
		if r.Kind == mqtest.QueueEvent {
			what += r.Detail + " " + r.Queue
		}
		seen[what]++
		if r.Seq == 0 || r.At.IsZero() {
			t.Errorf("%+v", r)
		}
	}
	for what, want := range map[string]int{
		"<- basic.publish": 2, "-> basic.ack": 1, "-> basic.nack": 1, "fault ": 1, "queue enqueued q": 1, "queue confirmed ": 1,
	} {
		if seen[what] != want {
			t.Errorf("%q %d times, want %d; seen: %v", what, seen[what], want, seen)
		}
	}
}

func TestTheJournalOfATestIsBounded(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t, mqtest.Config{Journal: 10})
	c := connect(t, b.Stage)
	c.declare("q")
	records := b.Journal().Records()
	if len(records) != 10 {
		t.Fatalf("%d records", len(records))
	}
	for i, r := range records[1:] {
		if r.Seq != records[i].Seq+1 {
			t.Errorf("record %d follows %d", r.Seq, records[i].Seq)
		}
	}
}

func TestFaultsSkipCountAndRoll(t *testing.T) {
	t.Parallel()
	struck := func() (hits []bool) {
		b := mqtest.New(t)
		c := connect(t, b.Stage)
		c.declare("q")
		in := b.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: publish, Skip: 2, Probability: 0.5, Seed: 7, Count: 5, Do: mqtest.Nack(),
		})
		for i := range uint64(40) {
			c.publish("q", "x")
			v, _ := receive(t, c.confirms)
			if v.DeliveryTag != i+1 {
				t.Fatalf("number %d, want %d", v.DeliveryTag, i+1)
			}
			hits = append(hits, !v.Ack)
		}
		hit(t, in, 5)
		return hits
	}
	first := struck()
	same(t, "a second run", struck(), first)
	if first[0] || first[1] {
		t.Error("it has not skipped two")
	}

	b := mqtest.New(t)
	c := connect(t, b.Stage)
	seldom := b.Inject(mqtest.Fault{Point: mqtest.Received, Method: publish, Probability: 0.1})
	for range 200 {
		c.publish("nowhere", "x")
	}
	c.settled()
	if n := seldom.Hits(); n == 0 || n > 60 {
		t.Errorf("it has struck %d times of 200, at a probability of 0.1", n)
	}
}

func TestAFaultMatchesWhatItNames(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		first, second := connect(t, s), connect(t, s)
		second.open() // its second channel
		first.declare("a")
		second.declare("b")
		if err := second.ch.QueueBind("b", "key", "amq.direct", false, nil); err != nil {
			t.Fatal(err)
		}
		ids := s.Connections()
		received, sending, deliver := mqtest.Received, mqtest.Sending, "basic.deliver"
		tests := []struct {
			fault mqtest.Fault
			times int
		}{
			{mqtest.Fault{Point: received, Method: publish}, 3},
			{mqtest.Fault{Point: received, Method: publish, Conn: ids[0].ID()}, 2},
			{mqtest.Fault{Point: received, Method: publish, Channel: 2}, 1},
			{mqtest.Fault{Point: received, Method: publish, Exchange: "amq.direct"}, 1},
			{mqtest.Fault{Point: received, Method: publish, RoutingKey: "a"}, 2},
			{mqtest.Fault{Point: received, Method: publish, MessageID: "2"}, 1},
			{mqtest.Fault{Point: received, Method: publish, Number: 2}, 1},
			{mqtest.Fault{Point: received, Method: "basic.ack"}, 2},
			{mqtest.Fault{Point: received, Method: deliver}, 0},
			{mqtest.Fault{Point: sending, Method: deliver}, 3},
			{mqtest.Fault{Point: sending, Method: deliver, Queue: "b"}, 1},
			{mqtest.Fault{Point: sending, Method: deliver, ConsumerTag: "of a"}, 2},
			{mqtest.Fault{Point: sending, Method: deliver, Tag: 2}, 1},
			{mqtest.Fault{Point: sending, Method: deliver, If: func(e *mqtest.Event) bool { return e.MessageID == "1" }}, 1},
		}
		var injected []*mqtest.Injected
		for _, tt := range tests {
			injected = append(injected, s.Inject(tt.fault))
		}
		ofA, err := first.ch.Consume("a", "of a", false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		ofB, err := second.ch.Consume("b", "of b", true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		first.publish("a", "1", "2")
		if err := second.ch.PublishWithContext(t.Context(), "amq.direct", "key", false, false, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			d, _ := receive(t, ofA)
			if err := d.Ack(false); err != nil {
				t.Fatal(err)
			}
		}
		receive(t, ofB)
		first.settled()
		for i, tt := range tests {
			if got := injected[i].Hits(); got != tt.times {
				t.Errorf("%+v has struck %d times, not %d", tt.fault, got, tt.times)
			}
		}
	})
}

func TestWhatIsMisspeltPanicsWhereItIsWritten(t *testing.T) {
	t.Parallel()
	b := mqtest.NewInMemory(t)
	fields := map[string]any{"mesage-count": 7}
	for want, write := range map[string]func(){
		`there is no method "basic.publsh" for a fault`:         func() { b.Inject(mqtest.Fault{Method: "basic.publsh"}) },
		`Rewrite needs a function`:                              func() { mqtest.Rewrite(nil) },
		`there is no method "queue.declareok"`:                  func() { mqtest.Answer(mqtest.Method{Name: "queue.declareok"}) },
		`queue.declare-ok has no field "mesage-count"`:          func() { mqtest.Answer(mqtest.Method{Name: "queue.declare-ok", Fields: fields}) },
		`queue.declare-ok has no field "queue" that could be 7`: func() { mqtest.Answer(mqtest.Method{Name: "queue.declare-ok", Fields: map[string]any{"queue": 7}}) },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("it says %q, want %q in it", got, want)
				}
			}()
			write()
		}()
	}
	b.Inject(mqtest.Fault{Method: "heartbeat"})
}

// TestAFaultThatStrikesOnceStrikesOneOfTwoAtOnce has the second event come while the
// first is still being dealt with.
func TestAFaultThatStrikesOnceStrikesOneOfTwoAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		in := b.Inject(mqtest.Fault{Point: mqtest.Accepted, Count: 1, Do: mqtest.Delay(time.Minute)})
		for range 2 {
			if _, err := b.Dial("", ""); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour) // in the bubble
		hit(t, in, 1)
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	in := b.Inject(mqtest.Fault{Do: mqtest.Cut()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := in.Wait(ctx); err == nil {
		t.Error("it has struck")
	}
	in.Remove()
	connect(t, b.Stage)
}

func TestInterceptSeesBothWaysAndDecides(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		methods := make(chan string, 100)
		remove := s.Intercept(func(e *mqtest.Event) mqtest.Action {
			methods <- e.Point.String() + " " + e.Method
			if e.Method == "queue.declare" && e.Point == mqtest.Received && e.Field("passive") == true {
				return mqtest.CloseChannel(404, "NOT_FOUND - it is hidden")
			}
			return mqtest.Pass()
		})
		c := connect(t, s)
		c.declare("q")
		if _, err := c.ch.QueueDeclarePassive("q", true, false, false, false, nil); err == nil {
			t.Error("found")
		}
		remove()
		close(methods)
		seen := map[string]bool{}
		for m := range methods {
			seen[m] = true
		}
		for _, want := range []string{
			"accepted ", "sending connection.start", "received connection.open", "applied connection.open",
			"received queue.declare", "applied queue.declare", "sending queue.declare-ok",
		} {
			if !seen[want] {
				t.Errorf("not seen: %s", want)
			}
		}
	})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	server := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	b := mqtest.New(t, mqtest.Config{TLS: server})
	p := mqtest.NewProxy(t, b.URL(), mqtest.ProxyConfig{TLS: server, UpstreamTLS: &tls.Config{RootCAs: pool}})
	for _, s := range []*mqtest.Stage{b.Stage, p.Stage} {
		conn, err := amqp.DialTLS(s.URL(), &tls.Config{RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		closed := conn.NotifyClose(make(chan *amqp.Error, 1))
		in := s.Inject(mqtest.Fault{Method: "channel.open", Point: mqtest.Received, Do: mqtest.Cut()})
		if _, err := conn.Channel(); err == nil {
			t.Error("opened")
		}
		hit(t, in, 1)
		receive(t, closed)
		in.Remove()
	}
}
