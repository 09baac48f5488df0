package mqtest_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/wire"
	"github.com/mqkit/mqkit/mqtest"
)

// attempt dials as a client does whose patience is short.
func attempt(s *mqtest.Stage) error {
	conn, err := amqp.DialConfig(s.URL(), amqp.Config{Dial: s.Dial})
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func TestSilenceAtAnyStepOfTheHandshake(t *testing.T) {
	for name, fault := range map[string]mqtest.Fault{
		"accepted":       {Point: mqtest.Accepted, Do: mqtest.Stall()},
		"start-ok":       {Point: mqtest.Received, Method: "connection.start-ok", Do: mqtest.Stall()},
		"behind open-ok": {Point: mqtest.Sending, Method: "connection.open-ok", Do: mqtest.Pass().Then(mqtest.Stall())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := mqtest.NewInMemory(t)
				in := b.Inject(fault)
				p := raw(t, b.Stage)
				p.write([]byte(wire.ProtocolHeader))
				p.send(0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"})
				p.send(0, &wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072})
				p.send(0, &wire.ConnectionOpen{VirtualHost: "/"})
				hit(t, in, 1)
				for {
					m, err := p.next()
					var silence net.Error
					if errors.As(err, &silence) && silence.Timeout() {
						break
					}
					if err != nil {
						t.Fatalf("after %v: %v", m, err)
					}
				}
			})
		})
	}
}

func TestRefusedConnectionsAndTheSamePortAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		c := connect(t, s)
		s.RefuseConnections()
		if err := attempt(s); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
		c.declare("q") // what is open stays so
		if err := s.AcceptConnections(); err != nil {
			t.Fatal(err)
		}
		if err := attempt(s); err != nil {
			t.Error(err)
		}
	})
}

func TestAnOversizedFrameToTheClient(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		p := raw(t, s)
		p.open("/")
		in := s.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.open-ok", Do: mqtest.Oversize()})
		p.r.SetMax(131072)
		p.method(1, "channel.open", nil)
		if _, err := p.next(); err == nil {
			t.Error("it was taken for a frame")
		}
		hit(t, in, 1)
	})
}

// At every byte of the stream, to the client and from it: what was confirmed is
// there, and nothing else of the connection is left behind.
func TestCutAtEveryByteOfAConfirm(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		for _, point := range []mqtest.Point{mqtest.Received, mqtest.Applied} {
			for n := range 21 {
				p := raw(t, s)
				p.confirming()
				b.Queue("q").Purge()
				in := s.Inject(mqtest.Fault{Point: point, Method: publish, Count: 1, Do: mqtest.CutInside(n)})
				p.publish(1, "q", "a")
				p.ended()
				hit(t, in, 1)
				gone(t, b)
				if got, want := b.Queue("q").Len(), int(point-mqtest.Received); got != want {
					t.Errorf("%v, %d bytes: %d messages, want %d", point, n, got, want)
				}
			}
		}
	})
}

func TestStopReadingAndStopSending(t *testing.T) {
	t.Run("reading", func(t *testing.T) {
		onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
			c := connect(t, s)
			c.declare("q")
			deliveries, err := c.ch.Consume("q", "", true, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			in := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: publish, Do: mqtest.StopReading()})
			c.publish("q", "never arrives")
			hit(t, in, 1)
			b.Queue("q").Enqueue(mqtest.Message{Body: []byte("still sent")})
			if d, _ := receive(t, deliveries); string(d.Body) != "still sent" {
				t.Errorf("got %q", d.Body)
			}
			s.DropConnections()
		})
	})
	t.Run("sending", func(t *testing.T) {
		onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
			c := connect(t, s)
			c.declare("q")
			in := s.Inject(mqtest.Fault{Point: mqtest.Applied, Method: publish, Do: mqtest.StopSending()})
			c.publish("q", "a")
			hit(t, in, 1)
			passed := s.Inject(mqtest.Fault{Point: mqtest.Received, MessageID: "b"})
			c.publish("q", "b")
			hit(t, passed, 1)
			select {
			case v := <-c.confirms:
				t.Errorf("confirmed %v", v)
			default:
			}
			s.DropConnections()
			c.lost()
			gone(t, b)
			same(t, "queue", b.Queue("q").Bodies(), []string{"a", "b"})
		})
	})
}

func TestMissedHeartbeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		c := connect(t, b.Stage)
		in := b.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "heartbeat", Do: mqtest.Drop()})
		if err := c.lost(); err == nil {
			t.Error("the client does not miss them")
		}
		if in.Hits() == 0 {
			t.Error("no heartbeat was dropped")
		}
		in.Remove()
		c = connect(t, b.Stage)
		in = b.Inject(mqtest.Fault{Point: mqtest.Received, Method: "heartbeat", Do: mqtest.Drop()})
		if err := c.lost(); err == nil {
			t.Error("the broker does not miss them")
		}
		if in.Hits() == 0 {
			t.Error("no heartbeat was dropped")
		}
	})
}

func TestGarbageAndSilenceDisturbNobody(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		c.declare("q")
		for name, x := range map[string]struct {
			send []byte
			want string
		}{
			"no protocol":    {[]byte("GET / HTTP/1.1\r\n\r\n"), ""},
			"half a header":  {[]byte("AMQP"), ""},
			"garbage":        {[]byte("AMQP\x00\x00\x09\x01" + strings.Repeat("\xFF", 1000)), ""},
			"huge length":    {[]byte("AMQP\x00\x00\x09\x01\x01\x00\x00\xFF\xFF\xFF\xFF"), ""},
			"nothing at all": {nil, ""},
		} {
			p := raw(t, s)
			p.write(x.send)
			if half, ok := p.sock.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			if last := p.ended(); !strings.HasPrefix(last, x.want) {
				t.Errorf("%s: ended with %q", name, last)
			}
		}
		p := raw(t, s)
		p.open("/")
		p.write([]byte{1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF})
		if m, ok := p.expect("connection.close").Method.(*wire.ConnectionClose); !ok || m.ReplyCode != 501 {
			t.Errorf("closed with %+v", m)
		}
		c.publish("q", "a")
		same(t, "verdicts", c.verdicts(1), []string{"1+"})
	})
}

func TestASilentClientIsHungUpOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		for _, header := range []string{"", "AMQP", wire.ProtocolHeader} {
			p := raw(t, b.Stage)
			p.write([]byte(header))
			if header == wire.ProtocolHeader {
				p.expect("connection.start")
			}
			if _, err := p.next(); !errors.Is(err, io.EOF) {
				t.Errorf("after %q: %v", header, err)
			}
		}
	})
}

func TestAScriptedCloseNamesTheMethodThatIsToBlame(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		p := raw(t, s)
		p.confirming()
		for point, id := range map[mqtest.Point]wire.ID{mqtest.Received: wire.IDQueueDeclare, mqtest.Applied: wire.IDQueueDeclare, mqtest.Sending: 0} {
			method := "queue.declare"
			if point == mqtest.Sending {
				method = "queue.declare-ok" // the broker's own
			}
			s.Inject(mqtest.Fault{Point: point, Method: method, Count: 1, Do: mqtest.CloseChannel(406, "")})
			p.send(1, &wire.QueueDeclare{Queue: "q", Durable: true})
			m, _ := p.expect("channel.close").Method.(*wire.ChannelClose)
			if m.ClassID != id.Class() || m.MethodID != id.Method() {
				t.Errorf("at %v: %+v", point, m)
			}
			p.send(1, &wire.ChannelCloseOk{})
			p.method(1, "channel.open", nil)
			p.expect("channel.open-ok")
		}
	})
}

func TestAScriptedCloseOfTheConnectionEndsItAtTheBrokerToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		p := raw(t, b.Stage)
		p.confirming()
		p.send(1, &wire.QueueDeclare{Queue: "mine", Exclusive: true})
		p.expect("queue.declare-ok")
		b.Connections()[0].Do(mqtest.CloseConnection(320, ""))
		p.expect("connection.close")
		synctest.Wait() // it has not been answered
		if b.Queue("mine").Exists() {
			t.Error("what the connection had is still there")
		}
	})
}
