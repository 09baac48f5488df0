package producer_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
)

// hangsUp is a fault: the broker closes the connection for the message with that body.
func hangsUp(body string) mqtest.Fault {
	return mqtest.Fault{
		Point: mqtest.Received, Method: "basic.publish", If: func(e *mqtest.Event) bool { return string(e.Body) == body },
		Do: mqtest.CloseConnection(541, "INTERNAL_ERROR"),
	}
}

// TestAMessageThatCostsTheConnectionIsRefused: it is found among its neighbours, and among
// those of another producer on the same connection, and only it is refused.
func TestAMessageThatCostsTheConnectionIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	other, err := producer.New(f.pool, producer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	poison := f.broker.Inject(hangsUp("poison"))
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, body := range numbered(1, 50) {
			if err := other.Publish(t.Context(), producer.Text("other "+body).ToQueue("q")); err != nil {
				t.Errorf("a message of the other producer: %v", err)
			}
		}
	})
	cs := f.publish("1", "2", "poison", "3", "4")
	var refused *producer.RefusedError
	if err := f.verdict(cs[2], producer.Refused); !errors.As(err, &refused) || !strings.Contains(err.Error(), "INTERNAL_ERROR") || producer.SafeToRetry(err) {
		t.Errorf("%v", err)
	}
	for _, i := range []int{0, 1, 3, 4} {
		f.verdict(cs[i], producer.Confirmed)
	}
	wg.Wait()
	// Once with its neighbours, and then alone for as long as it takes to be sure.
	if n := poison.Hits(); n != 3 {
		t.Errorf("it has cost %d connections, want 3", n)
	}
	stored := f.broker.Queue("q").Bodies()
	for _, body := range append(numbered(1, 4), "other 1", "other 50") {
		if !slices.Contains(stored, body) {
			t.Errorf("%q is not stored", body)
		}
	}
	if slices.Contains(stored, "poison") {
		t.Error("it is stored")
	}
}

// TestSuspectsOfTwoProducersAreTriedOneAfterTheOther: what is found out about one, which
// takes its time, must not be mixed up with the end that the other brings about.
func TestSuspectsOfTwoProducersAreTriedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	other, err := producer.New(f.pool, producer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	unconfirmed := f.broker.Inject(mqtest.Fault{
		Point: mqtest.Applied, Method: "basic.publish", If: func(e *mqtest.Event) bool { return string(e.Body) == "innocent" }, Do: mqtest.Drop(),
	})
	f.broker.Inject(mqtest.Fault{Point: mqtest.Applied, Method: "basic.qos", Do: mqtest.Delay(30 * time.Millisecond)})
	hanging := hangsUp("poison")
	hanging.Count = 3 // once in company, and then alone for as long as it takes to be sure
	poison := f.broker.Inject(hanging)
	innocent, err := other.PublishAsync(t.Context(), producer.Text("innocent").ToQueue("q"))
	if err != nil {
		t.Fatal(err)
	}
	f.arrive("innocent")
	f.verdict(f.publish("poison")[0], producer.Refused)
	f.struck(poison)
	f.pending(innocent)
	unconfirmed.Remove()
	f.broker.DropConnections()
	f.verdict(innocent, producer.Confirmed)
}

// TestAConnectionThatIsClosedForSomethingElseCostsNoMessage: what was in flight alone may not
// have been the reason.
func TestAConnectionThatIsClosedForSomethingElseCostsNoMessage(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	lost := f.broker.Inject(loses(1))
	c := f.publish("innocent")[0]
	f.struck(lost)
	f.do(f.next("basic.publish"), mqtest.CloseConnection(541, "INTERNAL_ERROR"))
	f.verdict(c, producer.Confirmed)
	// And none that the broker was told to close for everybody's sake.
	lost = f.broker.Inject(loses(1))
	c = f.publish("second")[0]
	f.struck(lost)
	m := f.next("basic.publish")
	for string(m.Body) != "second" {
		m = f.next("basic.publish")
	}
	f.do(m, mqtest.CloseConnection(320, "CONNECTION_FORCED - test"))
	f.verdict(c, producer.Confirmed)
	f.stored("innocent", "innocent", "second", "second")
}

// TestAMessageThatIsCutOffAgainAndAgainIsNoCulprit: it is the only one in flight each time,
// and nobody has said that it was for something that was said.
func TestAMessageThatIsCutOffAgainAndAgainIsNoCulprit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	cuts := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Count: 5, Do: mqtest.Cut()})
	f.verdict(f.publish("innocent")[0], producer.Confirmed)
	f.struck(cuts)
	f.stored("innocent")
}

// TestAChannelThatIsClosedForSomethingElseCostsNoMessage: these codes are not of a publish.
func TestAChannelThatIsClosedForSomethingElseCostsNoMessage(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	var stored []string
	for _, code := range []int{320, 405, 504, 541} {
		body := fmt.Sprint(code)
		closed := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Count: 2, Do: mqtest.CloseChannel(code, "")})
		f.verdict(f.publish(body)[0], producer.Confirmed)
		f.struck(closed)
		stored = append(stored, body)
	}
	f.stored(stored...)
}

// TestWhatCostsTheConnectionIsRefusedHere: before anything of it is sent.
func TestWhatCostsTheConnectionIsRefusedHere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, producer.Config{})
	for i, headers := range []amqp.Table{
		{"ratio": math.NaN()},
		{"ratio": math.Inf(1)},
		{"ratio": float32(math.Inf(-1))},
		{"deep": amqp.Table{"ratio": []any{1, math.NaN()}}},
		{"flags": make([]any, 8193)},
	} {
		for range 2 {
			m := producer.Text(fmt.Sprint(i)).ToQueue("q")
			m.Headers = headers
			err := f.Publish(t.Context(), m)
			var refused *producer.RefusedError
			if !errors.As(err, &refused) || refused.Field != "Headers" || !producer.SafeToRetry(err) {
				t.Errorf("%d: %v", i, err)
			}
		}
	}
	f.verdict(f.publish("good")[0], producer.Confirmed)
	if n := len(f.received("basic.publish")); n != 1 {
		t.Errorf("%d messages were sent, want 1", n)
	}
}

// TestTheSearchForACulpritDoesNotWait: each session gets something done, if only that the
// next one knows how to go on.
func TestTheSearchForACulpritDoesNotWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newMemoryFixture(t, producer.Config{}, backoffOf(time.Hour)) // as good as never
		held := f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Count: 1, Do: mqtest.Hold()})
		closes := f.broker.Inject(mqtest.Fault{Point: mqtest.Sending, Method: "channel.close"})
		began := time.Now()
		var cs []*producer.Confirmation
		for i := range 10 {
			m := producer.Text("x").ToQueue("q")
			if i == 0 || i == 9 { // the first has nobody's verdict before it
				m.Exchange = "missing"
			}
			cs = append(cs, f.message(m))
		}
		f.struck(held)
		held.Release()
		for i, c := range cs {
			want := producer.Confirmed
			if i == 0 || i == 9 {
				want = producer.Refused
			}
			if err := c.Wait(t.Context()); producer.VerdictOf(err) != want {
				t.Errorf("message %d: %v, want %s", i, err, want)
			}
		}
		if n := closes.Hits(); n != 3 {
			t.Errorf("%d channels were closed, want 3", n)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestNoneOfManySuspectsIsRefusedForTheEndOfAnother: each producer's waits for its turn, and gets it
// when the connection was closed for another's.
func TestNoneOfManySuspectsIsRefusedForTheEndOfAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const producers = 20
		f := newMemoryFixture(t, producer.Config{}, backoffOf(time.Millisecond))
		unconfirmed := f.broker.Inject(loses(producers))
		var innocent []*producer.Confirmation
		for range producers {
			p, err := producer.New(f.pool, producer.Config{})
			if err != nil {
				t.Fatal(err)
			}
			c, err := p.PublishAsync(t.Context(), producer.Text("innocent").ToQueue("q"))
			if err != nil {
				t.Fatal(err)
			}
			innocent = append(innocent, c)
		}
		f.struck(unconfirmed)
		poison := f.broker.Inject(hangsUp("poison"))
		f.verdict(f.publish("poison")[0], producer.Refused)
		for _, c := range innocent {
			f.verdict(c, producer.Confirmed)
		}
		if n := poison.Hits(); n != 3 {
			t.Errorf("it has cost %d connections, want 3", n)
		}
	})
}
