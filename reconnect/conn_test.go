package reconnect

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newPipe returns a conn above one end of a pipe, and the other end. Both are
// gone when the test ends.
func newPipe(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	c := newConn(near, near, time.Now().Add(5*time.Second), func() {})
	t.Cleanup(func() {
		c.abort(errors.New("the test is over"))
		<-c.flushed
		_ = far.Close()
	})
	return c, far
}

// inBubble runs f where time is fake and nothing may be left behind.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func after(d time.Duration) { <-time.After(d) }

func mustWrite(t *testing.T, c io.Writer, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("Write(%d bytes) = %d, %v", len(s), n, err)
	}
}

func isGone(c *conn) bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

func wantAfter(t *testing.T, began time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(began); got != want {
		t.Errorf("it took %v, want %v", got, want)
	}
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func TestSilenceForTwoHeartbeatsEndsTheConnAndSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		c.established(10 * time.Second)
		began := time.Now()
		_, err := c.Read(make([]byte, 10))
		wantAfter(t, began, 20*time.Second)
		wantText(t, err, "nothing received for 20s, 2 heartbeats")
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(c.reason(), err) || !isGone(c) {
			t.Errorf("err %v, reason %v, gone %v", err, c.reason(), isGone(c))
		}
		<-c.flushed
	})
}

func TestAByteFromThePeerBeginsTheSilenceAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		c.established(10 * time.Second)
		began := time.Now()
		go func() {
			for range 3 {
				after(19 * time.Second)
				_, _ = far.Write([]byte{8})
			}
		}()
		for range 3 {
			if n, err := c.Read(make([]byte, 10)); n != 1 || err != nil {
				t.Fatalf("Read = %d, %v", n, err)
			}
		}
		if c.quiet() != 0 {
			t.Errorf("quiet for %v right after a byte", c.quiet())
		}
		_, err := c.Read(make([]byte, 10))
		wantAfter(t, began, 77*time.Second)
		wantText(t, err, "nothing received for 20s")
	})
}

func TestSilenceIsUnlimitedWithoutHeartbeats(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		c.established(0)
		go func() {
			after(time.Hour)
			_, _ = far.Write([]byte{8})
		}()
		if n, err := c.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Errorf("Read = %d, %v", n, err)
		}
	})
}

func TestAWriteThatThePeerDoesNotTakeForThreeHeartbeatsEndsTheConn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		c.established(10 * time.Second)
		for range 3 { // each write has a limit of its own
			after(25 * time.Second)
			mustWrite(t, c, "taken")
			if _, err := io.ReadFull(far, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		}
		after(25 * time.Second)
		began := time.Now()
		mustWrite(t, c, "frame")
		<-c.gone
		wantAfter(t, began, 30*time.Second)
		wantText(t, c.reason(), "the broker took nothing for 30s")
		<-c.flushed
	})
}

func TestAHandshakeThatThePeerDoesNotTakeEndsAtItsDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		began := time.Now()
		mustWrite(t, c, "AMQP")
		<-c.gone
		wantAfter(t, began, 5*time.Second)
	})
}

func TestBlockingTakesTheLimitOffThePendingWriteAndUnblockingPutsItBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		c.established(10 * time.Second)
		mustWrite(t, c, "pending when the broker blocks")
		after(29 * time.Second)
		c.setBlocked(true)
		after(time.Hour)
		if isGone(c) {
			t.Fatalf("given up while blocked: %v", c.reason())
		}
		began := time.Now()
		c.setBlocked(false)
		<-c.gone
		wantAfter(t, began, 30*time.Second)
	})
}

func TestAWriteBegunWhileBlockedHasNoLimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		c.established(10 * time.Second)
		c.setBlocked(true)
		mustWrite(t, c, "late")
		after(time.Hour)
		if isGone(c) {
			t.Fatalf("given up while blocked: %v", c.reason())
		}
		p := make([]byte, 10)
		if n, err := far.Read(p); string(p[:n]) != "late" || err != nil {
			t.Errorf("the peer read %q, %v", p[:n], err)
		}
	})
}

func TestWritesMadeWhileAWriteIsUnderWayTravelTogether(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		mustWrite(t, c, "a")
		synctest.Wait() // the flusher is stuck with it: the peer does not read yet
		mustWrite(t, c, "b")
		mustWrite(t, c, "c")
		mustWrite(t, c, "d")
		p := make([]byte, 10) // one Read of a pipe takes from one Write
		var got []string
		for range 2 {
			n, err := far.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(p[:n]))
		}
		if got[0] != "a" || got[1] != "bcd" {
			t.Errorf("the peer got %q, want a and then bcd", got)
		}
	})
}

func TestOfferedIsRaisedBeforeTheSystemCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		mustWrite(t, c, "four")
		synctest.Wait() // in the call; not a byte was taken
		if a, o := c.accepted.Load(), c.offered.Load(); a != 4 || o != 4 {
			t.Errorf("in the call: accepted %d, offered %d, want 4 and 4", a, o)
		}
		mustWrite(t, c, "more")
		synctest.Wait()
		if a, o := c.accepted.Load(), c.offered.Load(); a != 8 || o != 4 {
			t.Errorf("with more behind it: accepted %d, offered %d, want 8 and 4", a, o)
		}
		_ = far.Close()
		<-c.flushed
		if o := c.offered.Load(); o != 4 {
			t.Errorf("after the cut: offered %d, want 4: the rest was never handed over", o)
		}
	})
}

func TestWriteNeverWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		began := time.Now()
		for range 20 {
			mustWrite(t, c, strings.Repeat("x", bufferSize))
		}
		wantAfter(t, began, 0)
	})
}

// fill leaves c with a flusher that is stuck and a full buffer.
func fill(t *testing.T, c *conn) {
	t.Helper()
	mustWrite(t, c, "stuck")
	synctest.Wait()
	mustWrite(t, c, strings.Repeat("x", bufferSize))
}

func TestRoomWaitsUntilTheBufferIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		if err := c.room(t.Context()); err != nil {
			t.Fatalf("room in an empty buffer: %v", err)
		}
		fill(t, c)
		got := make(chan error, 2)
		for range cap(got) {
			go func() { got <- c.room(t.Context()) }()
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("room in a full buffer: %v", <-got)
		}
		if _, err := io.ReadFull(far, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		for range cap(got) {
			if err := <-got; err != nil {
				t.Errorf("room = %v", err)
			}
		}
	})
}

func TestRoomIsFreedByTheEndOfTheConnWithItsCause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		fill(t, c)
		cause := errors.New("given up")
		go func() {
			after(time.Second)
			c.abort(cause)
		}()
		if err := c.room(t.Context()); !errors.Is(err, cause) {
			t.Errorf("room = %v, want the cause", err)
		}
		if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, cause) {
			t.Errorf("Write = %d, %v, want the cause", n, err)
		}
	})
}

func TestRoomIsFreedByItsContextAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		fill(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.room(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("room = %v", err)
		}
		if isGone(c) {
			t.Errorf("the conn ended with the caller's ctx: %v", c.reason())
		}
	})
}

func TestCloseLetsTheLastWordsLeaveAndThenClosesTheSocket(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		c.established(10 * time.Second)
		mustWrite(t, c, "first")
		synctest.Wait()
		mustWrite(t, c, " and close-ok")
		began := time.Now()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatalf("again: %v", err)
		}
		wantAfter(t, began, 0)
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
		got, err := io.ReadAll(far)
		if string(got) != "first and close-ok" || err != nil {
			t.Errorf("the peer got %q, %v", got, err)
		}
		<-c.flushed
		if !isGone(c) {
			t.Error("the socket is still open")
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
	})
}

func TestCloseWaitsNoLongerThanAMomentForAPeerThatDoesNotRead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		c.established(10 * time.Second)
		c.setBlocked(true) // no limit on writes
		mustWrite(t, c, "stuck")
		synctest.Wait()
		began := time.Now()
		_ = c.Close()
		<-c.flushed
		wantAfter(t, began, lastWords)
	})
}

func TestTheEndOfTheHandshakeDoesNotUndoAClose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		mustWrite(t, c, "close-ok")
		synctest.Wait()
		began := time.Now()
		_ = c.Close() // the broker closed right after open-ok
		c.established(0)
		<-c.flushed
		wantAfter(t, began, lastWords)
	})
}

func TestAbortFreesAStuckFlusherAtOnceAndTheFirstCauseStands(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		c.established(10 * time.Second)
		fill(t, c)
		began := time.Now()
		first := errors.New("first")
		c.abort(first)
		c.abort(errors.New("second"))
		<-c.flushed
		wantAfter(t, began, 0)
		if !errors.Is(c.reason(), first) {
			t.Errorf("reason = %v", c.reason())
		}
	})
}

func TestAbortWithoutACauseHappensOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		c.abort(nil)
		c.abort(nil)
		<-c.flushed
		if c.reason() == nil {
			t.Error("it is gone, and no reason tells so")
		}
	})
}

// closeWatch is a layer above a pipe that must not be closed.
type closeWatch struct {
	net.Conn
	closed chan struct{}
}

func (c *closeWatch) Close() error {
	close(c.closed)
	return c.Conn.Close()
}

func TestAConnIsClosedBelowTLS(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer func() { _ = far.Close() }()
		upper := &closeWatch{Conn: near, closed: make(chan struct{})}
		c := newConn(upper, near, time.Time{}, func() {})
		c.abort(errors.New("over"))
		<-c.flushed
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the peer sees %v", err)
		}
		select {
		case <-upper.closed:
			t.Error("the upper layer was closed: it could wait behind a stuck writer")
		default:
		}
	})
}

func TestTheDriversDeadlinesDoNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := newPipe(t)
		c.established(10 * time.Second)
		began := time.Now()
		past := began.Add(-time.Second)
		if err := errors.Join(c.SetDeadline(past), c.SetReadDeadline(past), c.SetWriteDeadline(past)); err != nil {
			t.Fatal(err)
		}
		go func() {
			after(time.Second)
			_ = errors.Join(c.SetDeadline(past), c.SetReadDeadline(past), c.SetWriteDeadline(past))
		}()
		_, err := c.Read(make([]byte, 1))
		wantAfter(t, began, 20*time.Second)
		wantText(t, err, "nothing received for 20s")
	})
}

func TestReadCallsTheBarrierFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer func() { _ = far.Close() }()
		var calls int
		c := newConn(near, near, time.Time{}, func() { calls++ })
		defer func() { c.abort(nil); <-c.flushed }()
		go func() {
			_, _ = far.Write([]byte{1})
			_, _ = far.Write([]byte{2})
		}()
		for i := range 2 {
			if _, err := c.Read(make([]byte, 1)); err != nil || calls != i+1 {
				t.Errorf("read %d: %v after %d barriers", i, err, calls)
			}
		}
	})
}

func TestReadNamesWhatEndedTheConn(t *testing.T) {
	t.Parallel()
	alert := []byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46}
	tests := []struct {
		name string
		peer func(net.Conn)
		set  func(*conn)
		want error
		text string
	}{
		{name: "a TLS alert on a plain port", peer: func(far net.Conn) { _, _ = far.Write(alert) }, want: errTLSPort},
		{name: "another protocol", peer: func(far net.Conn) { _, _ = io.WriteString(far, "HTTP/1.1 400 Bad Request") }, want: errNotAMQP},
		{name: "a method frame is data", peer: func(far net.Conn) { _, _ = far.Write([]byte{1, 0, 0}) }},
		{name: "a cut", peer: func(far net.Conn) { _ = far.Close() }, want: errPeerClosed},
		{name: "a cut in the handshake's silence", peer: func(net.Conn) {}, want: os.ErrDeadlineExceeded, text: "the handshake took too long"},
		{
			name: "bytes like an alert above TLS are just not AMQP", peer: func(far net.Conn) { _, _ = far.Write(alert) }, want: errNotAMQP,
			set: func(c *conn) { c.under = &closeWatch{Conn: c.under} },
		},
		{
			name: "bytes like an alert after the handshake are data", peer: func(far net.Conn) { _, _ = far.Write(alert) },
			set: func(c *conn) { c.established(time.Second) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c, far := newPipe(t)
				if tt.set != nil {
					tt.set(c)
				}
				go tt.peer(far)
				_, err := c.Read(make([]byte, 100))
				if !errors.Is(err, tt.want) {
					t.Fatalf("Read = %v, want %v", err, tt.want)
				}
				if tt.want != nil && (!isGone(c) || !errors.Is(c.reason(), tt.want)) {
					t.Errorf("gone %v, reason %v", isGone(c), c.reason())
				}
				if tt.text != "" {
					wantText(t, err, tt.text)
				}
			})
		})
	}
}

func TestWhatALargeMessageNeededIsNotKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, far := newPipe(t)
		go func() { _, _ = io.Copy(io.Discard, far) }()
		mustWrite(t, c, strings.Repeat("x", 10*bufferSize))
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := cap(c.buf) + cap(c.spare); n > 4*bufferSize {
			t.Errorf("%d bytes are kept", n)
		}
	})
}
