package proof_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/mqkit/mqkit/mqtest"
	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// TestAThousandCyclesLeaveNothing: connect, publish, close, again and again, with goroutines,
// heap and file descriptors as they were. The broker is in this process, so that what it
// keeps of a connection would count too.
func TestAThousandCyclesLeaveNothing(t *testing.T) {
	b := mqtest.New(t, mqtest.Config{Journal: 10})
	ctx := t.Context()
	cycle := func() {
		pool, err := reconnect.Open(ctx, reconnect.Config{URLs: []string{b.URL()}, Topology: plan()})
		if err != nil {
			t.Fatal(err)
		}
		p, err := producer.New(pool, producer.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(ctx, producer.Text("body").ToQueue("work")); err != nil {
			t.Fatal(err)
		}
		if err := pool.Close(ctx); err != nil {
			t.Fatal(err)
		}
		b.Queue("work").Purge()
	}
	for range 100 {
		cycle()
	}
	before := counted(t)
	for range 1000 {
		cycle()
	}
	after := counted(t)
	t.Logf("before %+v, after %+v", before, after)
	const slack = 20 // goroutines and files that are about to end
	if after.goroutines > before.goroutines+slack || after.files > before.files+slack {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if after.heap > before.heap+1<<20 { // a kilobyte of each cycle would be
		t.Errorf("the heap has grown from %d to %d bytes", before.heap, after.heap)
	}
}

type counts struct {
	goroutines int
	heap       uint64
	files      int // 0 where they cannot be counted
}

func counted(t *testing.T) (c counts) {
	t.Helper()
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.goroutines, c.heap = runtime.NumGoroutine(), m.HeapAlloc
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		c.files = len(fds)
	}
	return c
}
