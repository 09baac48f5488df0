package reconnect

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
)

// TestAChannelThatIsWatchedLateKnowsTheBrokersWord: a channel may be opened and
// its connection closed before its watcher has its first turn. The connection is
// gone then as well, which says less.
func TestAChannelThatIsWatchedLateKnowsTheBrokersWord(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		p := newTestPool(t, Config{URLs: []string{b.URL()}, Dial: b.DialContext})
		lf, err := p.links[Consuming].dial(t.Context(), p.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		closes := make([]chan *amqp.Error, 20) // a select that has two ways takes either
		for i := range closes {
			raw, err := lf.raw.Channel()
			if err != nil {
				t.Fatal(err)
			}
			closes[i] = raw.NotifyClose(make(chan *amqp.Error, 1))
		}
		b.Connections()[0].Do(mqtest.CloseConnection(320, "CONNECTION_FORCED - shutdown"))
		<-lf.conn.gone
		synctest.Wait()
		for i, c := range closes {
			ch := &Channel{channel: &channel{life: lf, done: make(chan struct{})}}
			ch.watch(c)
			if be := asBrokerError(ch.Err()); be == nil || be.Code != 320 || ch.Alone() {
				t.Errorf("channel %d: %v, alone %v; want the broker's 320", i+1, ch.Err(), ch.Alone())
			}
		}
	})
}

// held is a socket that takes nothing before it is free.
type held struct {
	net.Conn
	free chan struct{}
}

func (h *held) Write(p []byte) (int, error) {
	<-h.free
	return h.Conn.Write(p)
}

// TestWhatWasOfferedIsFinalWhenTheLastWordsHaveLeft: the driver is closed, and its channels
// are over, before that.
func TestWhatWasOfferedIsFinalWhenTheLastWordsHaveLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		socket := &held{free: make(chan struct{})}
		close(socket.free)
		p := newTestPool(t, Config{URLs: []string{b.URL()}, Dial: func(ctx context.Context, network, address string) (_ net.Conn, err error) {
			socket.Conn, err = b.DialContext(ctx, network, address)
			return socket, err
		}})
		lf, err := p.links[Consuming].dial(t.Context(), p.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		ch, err := lf.channel(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		socket.free = make(chan struct{})
		b.Connections()[0].Do(mqtest.CloseConnection(320, "CONNECTION_FORCED - shutdown"))
		<-ch.Done()
		final := make(chan uint64, 1)
		go func() {
			n, ok := ch.Offered()
			if !ok {
				t.Error("the connection is taken to live")
			}
			final <- n
		}()
		synctest.Wait()
		if len(final) > 0 {
			t.Error("it is said to be final")
		}
		close(socket.free)
		if n := <-final; n != ch.Accepted() {
			t.Errorf("offered %d of %d", n, ch.Accepted())
		}
	})
}
