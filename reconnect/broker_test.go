package reconnect_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// TestSilenceUnderTLSIsNoticedToo: the driver takes its deadlines off when the handshake
// is done, and would put TLS above what Config.Dial returns.
func TestSilenceUnderTLSIsNoticedToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cert, roots := certificate(t, "mqtest.invalid")
		f := newFixture(t, mqtest.Config{TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}})
		silent := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "connection.open-ok", Do: mqtest.Pass().Then(mqtest.Stall())})
		cfg := f.config()
		if !strings.HasPrefix(cfg.URLs[0], "amqps://") {
			t.Fatalf("the broker is at %s", f.broker.Addr())
		}
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
		cfg.Heartbeat, cfg.Backoff = 10*time.Second, longWait
		open(t, cfg)
		began := time.Now()
		c := f.await(t, reconnect.Waiting)
		wantAfter(t, began, 20*time.Second)
		wantText(t, c.Cause, "nothing received for 20s, 2 heartbeats")
		if hits(silent) != 1 {
			t.Errorf("%d connections fell silent", hits(silent))
		}
	})
}

// TestAPauseOfTheBrokerCostsNoConnection: with the heartbeat of the zero Config a broker
// may be busy for 15 s. With half of it this would be a false alarm.
func TestAPauseOfTheBrokerCostsNoConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		p := open(t, f.config())
		ch := acquire(t, p, reconnect.Publishing)
		after(time.Minute + time.Millisecond) // it was heard a moment ago
		paused := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "heartbeat", Do: mqtest.Drop()})
		after(14 * time.Second)
		if quiet := ch.Quiet(); quiet < 14*time.Second || hits(paused) == 0 {
			t.Errorf("it was silent for %v, %d heartbeats were lost", quiet, hits(paused))
		}
		paused.Remove()
		after(time.Minute)
		if s := p.Status(reconnect.Publishing); s.State != reconnect.Connected || s.Sessions != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestTheFrameSizeIsTheBrokers: RabbitMQ refuses one below 8192, and a header has to fit
// into one frame.
func TestTheFrameSizeIsTheBrokers(t *testing.T) {
	for name, size := range map[string]uint32{"the default": 128 << 10, "small": 8 << 10, "large": 1 << 20} {
		inBubbleOf(t, name, func(t *testing.T) {
			f := newFixture(t, mqtest.Config{FrameMax: size})
			open(t, f.config())
			oks := f.methods("connection.tune-ok")
			if len(oks) != 1 || oks[0].Field("frame-max") != size {
				t.Errorf("%d handshakes: %v, want frames of %d", len(oks), oks, size)
			}
		})
	}
}

// TestAMetadataStoreWithoutAMajorityIsTriedAgain: it is a 541, as the refusal of a
// deprecated feature is, and only the text tells that it passes.
func TestAMetadataStoreWithoutAMajorityIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		fault := refuses("queue.declare", 541, "INTERNAL_ERROR - Could not declare queue 'orders' in vhost '/' on node 'rabbit@a' because the metadata store operation timed out")
		fault.Count = 2
		minority := f.broker.Inject(fault)
		cfg := f.config()
		cfg.Topology = orders()
		began := time.Now()
		open(t, cfg)
		wantAfter(t, began, 2*pause)
		for range 2 {
			wantBroker(t, "the cause", f.await(t, reconnect.Waiting).Cause, 541, false)
		}
		if hits(minority) != 2 || hits(f.accepted) != 3 || !f.broker.Queue("orders").Exists() {
			t.Errorf("%d answers of a minority, %d connections; the queue is there: %v", hits(minority), hits(f.accepted), f.broker.Queue("orders").Exists())
		}
	})
}

// TestTheTypeOfAQueueIsSaidWhateverTheVhostsDefaultIs: where that is quorum, a queue
// without a type is one, and is another the next time the default is.
func TestTheTypeOfAQueueIsSaidWhateverTheVhostsDefaultIs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		f.broker.AddVhost("v", "quorum")
		cfg := f.config()
		cfg.Vhost = "v"
		p := open(t, cfg)
		bare := acquire(t, p, reconnect.Publishing)
		if err := bare.Call(limited(t), "declare bare", func(raw *amqp.Channel) error {
			_, err := raw.QueueDeclare("bare", true, false, false, false, nil)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		want := map[string]topology.QueueType{"a": topology.Classic, "b": topology.Quorum, "c": topology.Stream}
		var top topology.Topology
		for name, kind := range want {
			top.Queues = append(top.Queues, topology.Queue{Name: name, Type: kind})
		}
		for range 2 { // is the same
			if err := p.Declare(limited(t), top); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.broker.QueueIn("v", "bare").Info().Type; got != "quorum" {
			t.Errorf("a queue without a type is %s", got)
		}
		for name, kind := range want {
			if got := f.broker.QueueIn("v", name).Info().Type; got != string(kind) {
				t.Errorf("%s is %s, want %s", name, got, kind)
			}
		}
		for _, e := range f.methods("queue.declare")[1:] {
			if args, _ := e.Field("arguments").(map[string]any); args["x-queue-type"] != string(want[e.Queue]) {
				t.Errorf("%s was declared with %v", e.Queue, args)
			}
		}
	})
}

// TestACallersConfigServesASecondPool: nothing in it is written to, taken out or wiped when
// the first one logs in, is cut, and closes.
func TestACallersConfigServesASecondPool(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFixture(t)
		cfg := f.config()
		cfg.Topology = topology.Topology{Queues: []topology.Queue{{Name: "q", Arguments: amqp.Table{"x-max-length": 7}}}}
		urls, args := strings.Join(cfg.URLs, " "), cfg.Topology.Queues[0].Arguments
		for range 2 {
			p := open(t, cfg)
			f.cut(1)
			f.await(t, reconnect.Waiting)
			acquire(t, p, reconnect.Consuming)
			if err := p.Close(limited(t)); err != nil {
				t.Error(err)
			}
		}
		if got := strings.Join(cfg.URLs, " "); got != urls || !strings.Contains(got, secret) {
			t.Error("the urls have changed")
		}
		if args["x-max-length"] != 7 || len(args) != 1 || cfg.Vhost != "" || cfg.TLS != nil || cfg.Heartbeat != 0 || cfg.Logger == nil {
			t.Errorf("the config has changed: %+v", cfg)
		}
		if n := len(f.methods("connection.open")); n < 4 {
			t.Errorf("%d logins", n)
		}
	})
}
