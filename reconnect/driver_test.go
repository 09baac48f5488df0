package reconnect

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/mqtest"
)

// TestTheDriversOwnRecoveryStaysOff: what it recovers keeps its delivery tags, so that a
// late ack settles another message. After a cut, where no link runs that would dial again,
// the connection and its channel stay closed.
func TestTheDriversOwnRecoveryStaysOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := mqtest.NewInMemory(t)
		accepted := b.Inject(mqtest.Fault{Point: mqtest.Accepted})
		p := newTestPool(t, Config{URLs: []string{b.URL()}, Dial: b.DialContext})
		lf, err := p.links[Consuming].dial(t.Context(), p.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		if lf.raw.Config.Recovery != nil {
			t.Error("it is on")
		}
		raw, err := lf.raw.Channel()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := b.DropConnections(); n != 1 {
			t.Fatalf("%d connections were cut", n)
		}
		<-lf.conn.gone
		after(time.Hour)
		synctest.Wait()
		if n := accepted.Hits(); n != 1 || !lf.raw.IsClosed() || !raw.IsClosed() {
			t.Errorf("%d connections; connection closed %v, channel closed %v", n, lf.raw.IsClosed(), raw.IsClosed())
		}
	})
}
