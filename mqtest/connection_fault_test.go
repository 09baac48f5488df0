package mqtest_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

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

func TestFaultsOfTheAcceptAndOfTheHandshake(t *testing.T) {
	for name, x := range map[string]struct {
		fault mqtest.Fault
		want  string // in the driver's error
	}{
		"accepted, then closed":       {mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Cut()}, "EOF"},
		"accepted, then reset":        {mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Reset()}, "reset"},
		"another protocol's header":   {mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.SendRaw([]byte("AMQP\x00\x01\x00\x00")).Then(mqtest.Cut())}, "exception"},
		"cut inside connection.start": {mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.CutInside(100)}, "EOF"},
		"403":                         {mqtest.Fault{Point: mqtest.Received, Method: "connection.start-ok", Do: mqtest.CloseConnection(403, "")}, "403"},
		"close without a reason":      {mqtest.Fault{Point: mqtest.Received, Method: "connection.start-ok", Do: mqtest.Cut()}, "403"},
		"530":                         {mqtest.Fault{Point: mqtest.Received, Method: "connection.open", Do: mqtest.CloseConnection(530, "NOT_ALLOWED - vhost x not found")}, "vhost"},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
				fault := x.fault
				fault.Count = 1
				in := s.Inject(fault)
				if err := attempt(s); err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(x.want)) {
					t.Errorf("got %v, want %q in it", err, x.want)
				}
				hit(t, in, 1)
				if err := attempt(s); err != nil {
					t.Errorf("and after it: %v", err)
				}
			})
		})
	}
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

func TestTuneChangesWhatIsOffered(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		in := s.Inject(mqtest.Fault{
			Point: mqtest.Sending, Method: "connection.tune", Do: mqtest.Tune(2, 8192, time.Second),
		})
		conn := dial(t, s)
		hit(t, in, 1)
		if conn.Config.ChannelMax != 2 || conn.Config.FrameSize != 8192 || conn.Config.Heartbeat != time.Second {
			t.Errorf("agreed on %+v", conn.Config)
		}
		for range 2 {
			if _, err := conn.Channel(); err != nil {
				t.Error(err)
			}
		}
		if _, err := conn.Channel(); err == nil {
			t.Error("the ids are not exhausted")
		}
	})
}

func TestASlowConnectionWorks(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		in := s.Inject(mqtest.Fault{Point: mqtest.Accepted, Do: mqtest.Delay(time.Millisecond).Then(mqtest.Trickle(1, 0))})
		c := connect(t, s)
		c.declare("q")
		c.publish("q", "a")
		c.verdicts(1)
		hit(t, in, 1)
	})
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

func TestFaultsOfChannelOpen(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		conn := dial(t, s)
		closed := conn.NotifyClose(make(chan *amqp.Error, 1))
		in := s.Inject(mqtest.Fault{Method: "channel.open", Point: mqtest.Received, Count: 1, Do: mqtest.CloseConnection(504, "")})
		if _, err := conn.Channel(); err == nil {
			t.Error("opened")
		}
		hit(t, in, 1)
		if err, _ := receive(t, closed); err == nil || err.Code != 504 || !err.Server {
			t.Errorf("closed with %v", err)
		}
	})
}

func TestAChannelOpenThatIsNeverAnswered(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
		conn := dial(t, s)
		in := s.Inject(mqtest.Fault{Method: "channel.open", Point: mqtest.Received, Count: 1, Do: mqtest.Stall()})
		opened := make(chan error, 1)
		go func() {
			_, err := conn.Channel()
			opened <- err
		}()
		hit(t, in, 1)
		select {
		case err := <-opened:
			t.Errorf("answered: %v", err)
		default:
		}
		s.DropConnections()
		if err, _ := receive(t, opened); err == nil {
			t.Error("opened")
		}
	})
}

func TestDamagedFramesToTheClient(t *testing.T) {
	for name, action := range map[string]mqtest.Action{
		"cut inside":         mqtest.CutInside(9),
		"cut before the end": mqtest.CutInside(-1),
		"wrong end octet":    mqtest.BadFrameEnd(),
		"garbage":            mqtest.Garbage(64),
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *mqtest.Stage, _ *mqtest.Broker) {
				c := connect(t, s)
				in := s.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "queue.declare-ok", Do: action})
				if _, err := c.ch.QueueDeclare("q", true, false, false, false, nil); err == nil {
					t.Error("declared")
				}
				hit(t, in, 1)
				if err := c.lost(); err == nil {
					t.Error("the connection was not lost")
				}
			})
		})
	}
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

func TestDamagedFramesToTheBroker(t *testing.T) {
	for name, x := range map[string]struct {
		action mqtest.Action
		want   string
	}{
		"cut inside":      {mqtest.CutInside(9), ""},
		"wrong end octet": {mqtest.BadFrameEnd(), "FRAME_ERROR"},
		"oversized":       {mqtest.Oversize(), "FRAME_ERROR"},
		"garbage":         {mqtest.Garbage(64), "FRAME_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
				p := raw(t, s)
				p.confirming()
				in := s.Inject(mqtest.Fault{Point: mqtest.Received, Method: publish, Count: 1, Do: x.action})
				p.publish(1, "q", "a")
				if x.want == "" {
					p.ended()
				} else if m := p.expect("connection.close").Method.(*wire.ConnectionClose); !strings.HasPrefix(m.ReplyText, x.want) {
					t.Errorf("closed with %q", m.ReplyText)
				}
				hit(t, in, 1)
				if n := b.Queue("q").Len(); n != 0 {
					t.Errorf("%d messages", n)
				}
			})
		})
	}
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

func TestByteByByteEitherWay(t *testing.T) {
	onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
		c := connect(t, s)
		c.declare("q")
		for _, point := range []mqtest.Point{mqtest.Received, mqtest.Sending} {
			s.Inject(mqtest.Fault{Point: point, Channel: 1, Do: mqtest.Trickle(1, 0)})
		}
		c.publish("q", "a", "b")
		same(t, "verdicts", c.verdicts(2), []string{"1+", "2+"})
		same(t, "queue", b.Queue("q").Bodies(), []string{"a", "b"})
	})
}

func TestConnectionsEndInEveryWay(t *testing.T) {
	for name, x := range map[string]struct {
		action mqtest.Action
		code   int
	}{
		"320": {mqtest.CloseConnection(320, "CONNECTION_FORCED - bye"), 320},
		"541": {mqtest.CloseConnection(541, ""), 541},
		"RST": {mqtest.Reset(), 501},
		"FIN": {mqtest.Cut(), 501},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *mqtest.Stage, b *mqtest.Broker) {
				c := connect(t, s)
				s.Connections()[0].Do(x.action)
				if err := c.lost(); err == nil || err.Code != x.code {
					t.Errorf("closed with %v", err)
				}
				gone(t, b)
			})
		})
	}
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
