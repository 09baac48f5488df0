package amqpserver_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
)

// telling has the driver announce that it wants to be told why a login failed,
// which it does not by itself.
type telling struct {
	amqp.PlainAuth
	properties amqp.Table
}

func (a *telling) Response() string {
	a.properties["capabilities"].(amqp.Table)["authentication_failure_close"] = true
	return a.PlainAuth.Response()
}

// dial opens a connection of the real driver.
func dial(t *testing.T, cfg amqpserver.Config, change func(*amqp.Config)) (*amqp.Connection, *pump, error) {
	t.Helper()
	socket, p := serve(t, cfg)
	config := amqp.Config{
		SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "guest"}}, Vhost: "/",
		Heartbeat: 10 * time.Second, Locale: "en_US",
		Dial: func(string, string) (net.Conn, error) { return socket, nil },
	}
	if change != nil {
		change(&config)
	}
	conn, err := amqp.DialConfig("amqp://pipe", config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, p, err
}

// dialed is dial that has to go well, with one channel.
func dialed(t *testing.T, cfg amqpserver.Config) (*amqp.Connection, *amqp.Channel, *pump) {
	t.Helper()
	conn, p, err := dial(t, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return conn, ch, p
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestDriverPublishesAndConsumes(t *testing.T) {
	t.Parallel()
	conn, ch, _ := dialed(t, amqpserver.Config{})
	if got := conn.Properties["product"]; got != "RabbitMQ" {
		t.Errorf("product %v", got)
	}
	q := must[amqp.Queue](t)(ch.QueueDeclare("orders", true, false, false, false, nil))
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	const n = 200
	large := strings.Repeat("x", 300_000) // three frames
	var confirms []*amqp.DeferredConfirmation
	for i := range n {
		text := fmt.Sprint(i)
		if i == n-1 {
			text = large
		}
		m := amqp.Publishing{MessageId: fmt.Sprint(i), Headers: amqp.Table{"n": int64(i)}, Body: []byte(text)}
		confirms = append(confirms, must[*amqp.DeferredConfirmation](t)(
			ch.PublishWithDeferredConfirmWithContext(t.Context(), "", q.Name, true, false, m)))
	}
	confirms = append(confirms, must[*amqp.DeferredConfirmation](t)(
		ch.PublishWithDeferredConfirmWithContext(t.Context(), "", "nowhere", true, false, amqp.Publishing{MessageId: "lost"})))
	for i, c := range confirms {
		if ok, err := c.WaitContext(t.Context()); !ok || err != nil {
			t.Fatalf("publish %d: acked %v, %v", i, ok, err)
		}
	}
	if r := <-returns; r.MessageId != "lost" || r.ReplyCode != 312 || r.ReplyText != "NO_ROUTE" {
		t.Errorf("returned %+v", r)
	}

	if err := ch.Qos(20, 0, false); err != nil {
		t.Fatal(err)
	}
	deliveries := must[<-chan amqp.Delivery](t)(ch.Consume(q.Name, "tag", false, false, false, false, nil))
	for i := range n {
		d := <-deliveries
		if d.MessageId != fmt.Sprint(i) || d.Headers["n"] != int64(i) || d.DeliveryTag != uint64(i+1) || d.Redelivered {
			t.Fatalf("delivery %d is %+v", i, d)
		}
		if i == n-1 && string(d.Body) != large {
			t.Errorf("a large body arrived as %d bytes", len(d.Body))
		}
		if i%10 == 9 {
			if err := d.Ack(true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := ch.Cancel("tag", false); err != nil {
		t.Fatal(err)
	}
	if d, ok := <-deliveries; ok {
		t.Errorf("delivered %+v after the end", d)
	}
	if q := must[amqp.Queue](t)(ch.QueueDeclarePassive("orders", true, false, false, false, nil)); q.Messages != 0 || q.Consumers != 0 {
		t.Errorf("left: %+v", q)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestDriverSeesDeliveriesOfAnotherConnection(t *testing.T) {
	t.Parallel()
	broker := engine.New(engine.Options{})
	t.Cleanup(broker.Close)
	_, to, _ := dialed(t, amqpserver.Config{Broker: broker})
	_, from, p := dialed(t, amqpserver.Config{Broker: broker})
	must[amqp.Queue](t)(to.QueueDeclare("q", true, false, false, false, nil))
	deliveries := must[<-chan amqp.Delivery](t)(to.Consume("q", "", false, false, false, false, nil))
	for i := range 100 {
		if err := from.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
		if d := <-deliveries; d.Body[0] != byte(i) {
			t.Fatalf("delivery %d: %v", i, d.Body)
		}
	}
	cancels := to.NotifyCancel(make(chan string, 1))
	must[int](t)(from.QueueDelete("q", false, false, false))
	<-cancels
	closing := from.NotifyClose(make(chan *amqp.Error, 1))
	p.conn.Close(320, "CONNECTION_FORCED - shutdown")
	if e := <-closing; e == nil || e.Code != 320 || e.Reason != "CONNECTION_FORCED - shutdown" || !e.Server {
		t.Errorf("closed with %v", e)
	}
}

func TestDriverIsToldWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, ch, _ := dialed(t, amqpserver.Config{})
	_, err := ch.QueueDeclarePassive("missing", true, false, false, false, nil)
	var e *amqp.Error
	if !errors.As(err, &e) || e.Code != 404 || e.Reason != "NOT_FOUND - no queue 'missing' in vhost '/'" {
		t.Errorf("passive declare: %v", err)
	}

	_, p, err := dial(t, amqpserver.Config{}, func(c *amqp.Config) { c.Vhost = "nosuchvhost" })
	if !errors.As(err, &e) || e.Code != 530 || e.Reason != "NOT_ALLOWED - vhost nosuchvhost not found" {
		t.Errorf("missing vhost: %v", err)
	}
	p.tasks.Wait()

	wrong := amqp.PlainAuth{Username: "guest", Password: "wrong"}
	_, p, err = dial(t, amqpserver.Config{}, func(c *amqp.Config) {
		c.Properties = amqp.Table{"product": "test"}
		c.SASL = []amqp.Authentication{&telling{wrong, c.Properties}}
	})
	if !errors.As(err, &e) || e.Code != 403 || !e.Server || !strings.Contains(e.Reason, "Login was refused") {
		t.Errorf("wrong password: %v", err)
	}
	p.tasks.Wait()
	if !errors.Is(p.reason(), amqpserver.ErrCredentials) {
		t.Errorf("ended with %v", p.reason())
	}

	_, p, err = dial(t, amqpserver.Config{}, func(c *amqp.Config) { c.SASL = []amqp.Authentication{&wrong} })
	if !errors.As(err, &e) || e.Server {
		t.Errorf("wrong password, and nothing announced: %v", err)
	}
	p.tasks.Wait()
}

func TestDriverKeepsAliveByHeartbeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn, ch, p := dialed(t, amqpserver.Config{})
		time.Sleep(10 * time.Minute) // in the bubble
		if conn.IsClosed() || !p.conn.Open() {
			t.Fatal("closed")
		}
		must[amqp.Queue](t)(ch.QueueDeclare("q", true, false, false, false, nil))
		_ = conn.Close()
	})
}

func TestASilentDriverIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var frozen freezing
		conn, p, err := dial(t, amqpserver.Config{}, func(c *amqp.Config) {
			dial := c.Dial
			c.Dial = func(network, addr string) (_ net.Conn, err error) {
				frozen.Conn, err = dial(network, addr)
				return &frozen, err
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		frozen.freeze.Store(true)
		lost := conn.NotifyClose(make(chan *amqp.Error, 1))
		select {
		case <-lost:
		case <-time.After(time.Minute):
			t.Error("not dropped")
		}
		p.tasks.Wait()
		if !errors.Is(p.reason(), amqpserver.ErrHeartbeat) {
			t.Errorf("ended with %v", p.reason())
		}
	})
}

func TestDriverIsBlocked(t *testing.T) {
	t.Parallel()
	conn, _, p := dialed(t, amqpserver.Config{})
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 2))
	p.conn.Block("low on memory")
	if b := <-blocked; !b.Active || b.Reason != "low on memory" {
		t.Errorf("blocked: %+v", b)
	}
	p.conn.Unblock()
	if b := <-blocked; b.Active {
		t.Errorf("unblocked: %+v", b)
	}
	if err := conn.UpdateSecret("secret", "expired"); err != nil {
		t.Error(err)
	}
}
