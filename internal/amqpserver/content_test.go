package amqpserver

import (
	"testing"

	"github.com/mqkit/mqkit/internal/wire"
)

// What a header announces costs nothing: many channels could announce much.
func TestAnAnnouncedBodyTakesNoMemoryBeforeItComes(t *testing.T) {
	t.Parallel()
	ct := content{headed: true, size: 16 << 20, left: 16 << 20}
	if exc := ct.add(wire.Frame{Type: wire.BodyFrame, Payload: []byte("x")}); exc != nil {
		t.Fatal(exc)
	}
	if c := cap(ct.body); c > 1024 {
		t.Errorf("%d bytes are kept for one that came", c)
	}
}
