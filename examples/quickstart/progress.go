package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// talk writes to stderr: on a terminal one line that changes, else plain lines.
type talk struct {
	w        io.Writer
	terminal bool
	every    time.Duration

	mu sync.Mutex // one line at a time
}

func newTalk(w io.Writer) *talk {
	t := &talk{w: w, every: time.Second}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			t.terminal, t.every = true, 100*time.Millisecond
		}
	}
	return t
}

const clearLine = "\r\x1b[K"

func (t *talk) line(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.terminal {
		s = clearLine + s
	}
	fmt.Fprintln(t.w, s)
}

func (t *talk) status(s string) {
	if !t.terminal {
		t.line(s)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprint(t.w, clearLine+s)
}

// progress shows status now and then, until stop is called, and a last time then.
func (t *talk) progress(status func() string) (stop func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(t.every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				t.status(status())
			case <-end:
				t.line(status())
				return
			}
		}
	})
	return func() {
		close(end)
		wg.Wait()
	}
}

// stateChange tells of a connection that was lost, blocked, or is back, and not
// of each attempt between.
func (t *talk) stateChange(c reconnect.StateChange) {
	switch c.To {
	case reconnect.Connected, reconnect.Blocked:
	case reconnect.Waiting:
		if c.From == reconnect.Connecting {
			return
		}
	default:
		return
	}
	t.line(c.String())
}

// meter makes the status line.
type meter struct {
	pool     *reconnect.Pool
	producer *producer.Producer
	books    *ledger
	orders   int

	at        time.Time // of the last line
	confirmed uint64    // then
}

func (m *meter) String() string {
	s, now := m.producer.Stats(), time.Now()
	confirmed := min(s.Confirmed, uint64(m.orders)) // the end behind them is no order
	rate := float64(confirmed-m.confirmed) / now.Sub(m.at).Seconds()
	m.confirmed, m.at = confirmed, now
	consumed, _ := m.books.consumed()
	return fmt.Sprintf("confirmed %d of %d (%.0f/s), in flight %d, consumed %d, publishing %s, consuming %s",
		confirmed, m.orders, rate, s.InFlight, consumed,
		m.pool.Status(reconnect.Publishing).State, m.pool.Status(reconnect.Consuming).State)
}
