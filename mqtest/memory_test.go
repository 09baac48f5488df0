package mqtest_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/mqkit/mqkit/internal/wire"
	"github.com/mqkit/mqkit/mqtest"
)

// What a million messages cost that were published and confirmed. What other tests
// have in memory meanwhile is counted along, and is little beside it.
func TestMillionMessagesTakeLittle(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("a million messages")
	}
	t.Parallel()
	const n, window, size, limit = 1_000_000, 1000, 256, 600
	b := mqtest.New(t)
	p := raw(t, b.Stage)
	p.confirming()
	properties := wire.Properties{MessageID: strings.Repeat("i", 32), ContentType: "text/plain", DeliveryMode: 2}
	properties.Mark()
	one := wire.AppendContent(nil, 1, &wire.BasicPublish{RoutingKey: "q"}, properties.Append(nil), make([]byte, size), 4096)
	block := bytes.Repeat(one, window)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for sent := 0; sent < n; {
		p.write(block)
		sent += window
		for confirmed := 0; confirmed < sent; {
			m, ok := p.expect("basic.ack").Method.(*wire.BasicAck)
			if ok {
				confirmed = int(m.DeliveryTag)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapAlloc-before.HeapAlloc)/n - size
	t.Logf("%d bytes each", each)
	if each > limit {
		t.Errorf("a message takes %d bytes beyond its body, more than %d", each, limit)
	}
	if got := b.Queue("q").Purge(); got != n {
		t.Errorf("%d messages", got)
	}
}
