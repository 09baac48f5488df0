package producer_test

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// lines is a log.
type lines struct {
	mu  sync.Mutex // guards what follows
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

// TestAPublishWhileTheDriverClosesHidesNotWhy: it closes the channels of a connection one after
// the other, and takes nothing on any of them meanwhile. With many of them some publish
// comes in between.
func TestAPublishWhileTheDriverClosesHidesNotWhy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const producers, messages = 50, 100
		var (
			log lines
			n   atomic.Int64
		)
		broker := mqtest.NewInMemory(t)
		f := fixtureWith(t, broker, producer.Config{}, func(pool *reconnect.Config) {
			pool.Dial = broker.DialContext
			pool.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		forced := f.broker.Inject(mqtest.Fault{
			Point: mqtest.Received, Method: "basic.publish", Count: 5, If: func(*mqtest.Event) bool { return n.Add(1)%500 == 0 },
			Do: mqtest.CloseConnection(320, "CONNECTION_FORCED - test"),
		})
		var wg sync.WaitGroup
		for range producers {
			p, err := producer.New(f.pool, producer.Config{})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				if err := p.PublishAll(t.Context(), slices.Repeat([]producer.Message{producer.Text("x").ToQueue("q")}, messages)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		f.struck(forced)
		guesses := slices.DeleteFunc(log.all, func(line string) bool { return !strings.Contains(line, amqp.ErrClosed.Reason) })
		if len(guesses) > 0 {
			t.Errorf("%d sessions ended without the broker's word: %s", len(guesses), guesses[0])
		}
	})
}
