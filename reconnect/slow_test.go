package reconnect

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// readSlowly takes n bytes in pieces, each after a while, and returns them.
func readSlowly(t *testing.T, far net.Conn, n, piece int, pause time.Duration, between func(taken int)) []byte {
	t.Helper()
	got := make([]byte, 0, n)
	for len(got) < n {
		after(pause)
		synctest.Wait()
		between(len(got))
		k, err := io.ReadFull(far, got[len(got):min(len(got)+piece, n)])
		got = got[:len(got)+k]
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(got), n, err)
		}
	}
	return got
}

// TestALargeMessageMayTakeLongerThanThreeHeartbeats: the limit is for a peer that
// takes nothing, not for a slow line.
func TestALargeMessageMayTakeLongerThanThreeHeartbeats(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		c.established(10 * time.Second)
		message := bytes.Repeat([]byte("0123456789abcdef"), 40*bufferSize/16)
		message = append(message, "and an end that fills no piece"...)
		began := time.Now()
		mustWrite(t, c, string(message))
		got := readSlowly(t, far, len(message), bufferSize, 10*time.Second, func(int) {})
		if took := time.Since(began); took < 10*stuckHeartbeats*10*time.Second {
			t.Errorf("it took %v: no slow line", took)
		}
		if !bytes.Equal(got, message) || isGone(c) {
			t.Errorf("the peer got %d bytes of %d, the conn's end: %v", len(got), len(message), c.reason())
		}
		mustWrite(t, c, "next")
		p := make([]byte, 4)
		if _, err := io.ReadFull(far, p); string(p) != "next" || err != nil {
			t.Errorf("then it got %q, %v", p, err)
		}
	})
}

// TestOfferedGrowsPieceByPiece: what is behind the piece under way was certainly
// not sent.
func TestOfferedGrowsPieceByPiece(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		c.established(10 * time.Second)
		const pieces = 10
		mustWrite(t, c, string(make([]byte, pieces*bufferSize)))
		readSlowly(t, far, pieces/2*bufferSize, bufferSize, 20*time.Second, func(taken int) {
			if o := c.offered.Load(); o != uint64(taken+bufferSize) {
				t.Errorf("%d were taken: offered %d", taken, o)
			}
		})
		synctest.Wait()
		_ = far.Close()
		<-c.flushed
		if a, o := c.accepted.Load(), c.offered.Load(); a != pieces*bufferSize || o != (pieces/2+1)*bufferSize {
			t.Errorf("after the cut: accepted %d, offered %d; half was taken, one piece was under way", a, o)
		}
	})
}

// TestAPeerThatStopsInTheMiddleOfALargeMessageIsGivenUp: each piece has its
// limit, and is not to be taken for progress.
func TestAPeerThatStopsInTheMiddleOfALargeMessageIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		c.established(10 * time.Second)
		mustWrite(t, c, string(make([]byte, 10*bufferSize)))
		readSlowly(t, far, 5*bufferSize, bufferSize, 29*time.Second, func(int) {})
		began := time.Now()
		<-c.gone
		wantAfter(t, began, 30*time.Second)
		wantText(t, c.reason(), "the broker took nothing for 30s")
		<-c.flushed
		if o := c.offered.Load(); o != 6*bufferSize {
			t.Errorf("offered %d", o)
		}
	})
}
