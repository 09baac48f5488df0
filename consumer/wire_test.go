package consumer_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/mqtest"
)

// held is what the broker says and the client does not get yet.
type held struct {
	f    *fixture
	said events
	stop func()
}

// hold keeps back what the broker sends from now on of these methods, on a
// connection, until release. By then the broker has done what they say.
func (f *fixture) hold(conn int, methods ...string) *held {
	h := &held{f: f}
	h.stop = f.broker.Intercept(func(e *mqtest.Event) mqtest.Action {
		if e.Point != mqtest.Sending || e.Conn != conn || !slices.Contains(methods, e.Method) {
			return mqtest.Pass()
		}
		h.said.add(e)
		return mqtest.Drop()
	})
	return h
}

// await waits until n were kept back.
func (h *held) await(n int) {
	h.f.t.Helper()
	h.said.await(h.f.t, 0, n)
}

// release lets the client have them, in order, and those to come.
func (h *held) release() {
	h.f.t.Helper()
	h.stop()
	said := h.said.of()
	var frames []byte // in one piece, or an answer that is not kept back comes between
	for _, e := range said {
		frames = append(frames, e.Frames...)
	}
	if len(said) > 0 {
		h.f.conn(said[0].Conn).Do(mqtest.SendRaw(frames))
	}
}

// unanswered has the broker never get methods of that name, on a connection.
func (f *fixture) unanswered(conn int, method string) *mqtest.Injected {
	return f.broker.Inject(mqtest.Fault{Point: mqtest.Received, Conn: conn, Method: method, Do: mqtest.Drop()})
}

// struck tests that a fault happened.
func (f *fixture) struck(in *mqtest.Injected) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	if err := in.Wait(ctx); err != nil {
		f.t.Fatalf("the fault has not struck: %v", err)
	}
}

// events are those that happened, in order.
type events struct {
	mu      sync.Mutex
	list    []*mqtest.Event
	changed chan struct{} // nil: nobody waits
}

func (l *events) add(e *mqtest.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, e)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// of returns those of methods, or all.
func (l *events) of(methods ...string) (list []*mqtest.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.list {
		if len(methods) == 0 || slices.Contains(methods, e.Method) {
			list = append(list, e)
		}
	}
	return list
}

// await waits for the nth of methods, or of all, from an index on.
func (l *events) await(t *testing.T, from, nth int, methods ...string) (int, *mqtest.Event) {
	t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		for ; from < len(l.list); from++ {
			e := l.list[from]
			if len(methods) > 0 && !slices.Contains(methods, e.Method) {
				continue
			}
			if nth--; nth == 0 {
				l.mu.Unlock()
				return from, e
			}
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d more of %v have not come; there were %v", nth, methods, l.of())
		}
	}
}

// logs keeps what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
