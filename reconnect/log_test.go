package reconnect_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqkit/mqkit/reconnect"
)

// log collects everything that a pool tells: log lines, state changes, errors.
type log struct {
	mu      sync.Mutex // guards what follows
	text    strings.Builder
	changes []reconnect.StateChange
	cursor  int           // of await
	more    chan struct{} // closed and replaced with each change
}

func newLog() *log { return &log{more: make(chan struct{})} }

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) change(c reconnect.StateChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, c)
	_, _ = fmt.Fprintf(&l.text, "%v %+v %#v\n", c, c, c)
	close(l.more)
	l.more = make(chan struct{})
}

// show writes values as people print them.
func (l *log) show(values ...any) {
	for _, v := range values {
		_, _ = fmt.Fprintf(l, "%v\n%+v\n%#v\n%s\n%q\n", v, v, v, v, v)
	}
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// told is all changes so far.
func (l *log) told() []reconnect.StateChange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.changes)
}

// await returns the next change to a state.
func (l *log) await(t *testing.T, to reconnect.State) reconnect.StateChange {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		l.mu.Lock()
		more := l.more
		for l.cursor < len(l.changes) {
			c := l.changes[l.cursor]
			l.cursor++
			if c.To == to {
				l.mu.Unlock()
				return c
			}
		}
		l.mu.Unlock()
		select {
		case <-more:
		case <-late.C:
			t.Fatalf("the change to %s: not within %v", to, patience)
		}
	}
}
