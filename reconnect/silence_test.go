package reconnect

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// The driver's reader waits in a Read that began in the handshake when the peer
// falls silent right after it: that is silence, not a slow handshake.
func TestSilenceThatBeginsWithTheHandshakesEndIsCalledSilence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		go func() { _, _ = io.Copy(io.Discard, far) }()
		done := make(chan error, 1)
		go func() { _, err := c.Read(make([]byte, 10)); done <- err }()
		synctest.Wait()
		c.established(10 * time.Second)
		wantText(t, <-done, "nothing received for 20s, 2 heartbeats")
	})
}
