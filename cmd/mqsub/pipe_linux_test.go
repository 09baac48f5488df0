package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipeTo returns the two ends of a pipe, the writing one as a sink.
func pipeTo(t *testing.T) (sink, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return sinkOf(t, r, w)
}

// socketTo is the same for a pair of sockets, as node and others give to their
// children.
func socketTo(t *testing.T) (sink, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return sinkOf(t, os.NewFile(uintptr(fds[0]), "reader"), os.NewFile(uintptr(fds[1]), "writer"))
}

func sinkOf(t *testing.T, r, w *os.File) (sink, *os.File) {
	t.Helper()
	t.Cleanup(func() {
		_ = r.Close()
		_ = w.Close()
	})
	s := newSink(w, false)
	if _, ok := s.(*pipe); !ok {
		t.Fatalf("is taken for a %T", s)
	}
	return s, r
}

// put writes in the background and returns what put will have returned.
func put(t *testing.T, s sink, write, session context.Context, record []byte) <-chan error { //nolint:revive // t comes first in tests
	t.Helper()
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- s.put(write, session, record) })
	t.Cleanup(wg.Wait)
	return done
}

// await waits until the reader has that many bytes to read.
func await(t *testing.T, r *os.File, n int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if got >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes to read, want %d", got, n)
		}
		<-time.After(time.Millisecond)
	}
}

func pending(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		t.Fatalf("put has returned: %v", err)
	default:
	}
}

func each(t *testing.T, test func(*testing.T, sink, *os.File)) {
	for name, make := range map[string]func(*testing.T) (sink, *os.File){"pipe": pipeTo, "socket": socketTo} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := make(t)
			test(t, s, r)
		})
	}
}

func TestPutWaitsUntilTheReaderHasTakenAllOfIt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s sink, r *os.File) {
		done := put(t, s, t.Context(), t.Context(), []byte("hello\n"))
		await(t, r, 6)
		pending(t, done)
		b := make([]byte, 5)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		pending(t, done)
		if _, err := io.ReadFull(r, b[:1]); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestARecordLargerThanThePipeArrivesWhole(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s sink, r *os.File) {
		record := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
		done := put(t, s, t.Context(), t.Context(), record)
		got := make([]byte, len(record))
		if _, err := io.ReadFull(r, got); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || !bytes.Equal(got, record) {
			t.Errorf("%v, equal: %v", err, bytes.Equal(got, record))
		}
	})
}

func TestAReaderThatGoesHasNotTakenWhatItLeft(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s sink, r *os.File) {
		done := put(t, s, t.Context(), t.Context(), []byte("hello\n"))
		await(t, r, 6)
		if _, err := r.Read(make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		if err := <-done; !errors.Is(err, errReaderGone) {
			t.Errorf("put says %v", err)
		}
		if err := s.put(t.Context(), t.Context(), []byte("more\n")); !errors.Is(err, errReaderGone) {
			t.Errorf("the next put says %v", err)
		}
	})
}

// What head does with its last line: reads it and goes.
func TestAReaderOfAPipeThatReadsAndGoesHasTakenIt(t *testing.T) {
	t.Parallel()
	for range 200 {
		s, r := pipeTo(t)
		done := put(t, s, t.Context(), t.Context(), []byte("hello\n"))
		await(t, r, 6)
		if _, err := r.Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		if err := <-done; err != nil {
			t.Fatalf("put says %v", err)
		}
	}
}

func TestPutEndsWithItsContexts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s sink, r *os.File) {
		session, end := context.WithCancel(t.Context())
		done := put(t, s, t.Context(), session, []byte("hello\n"))
		await(t, r, 6)
		end()
		if err := <-done; !errors.Is(err, errNotTaken) {
			t.Errorf("when the session ends it says %v", err)
		}

		// Larger than any buffer, and nobody reads: it can be given up.
		boom := errors.New("boom")
		write, giveUp := context.WithCancelCause(t.Context())
		done = put(t, s, write, t.Context(), make([]byte, 8<<20))
		await(t, r, 4096)
		pending(t, done)
		giveUp(boom)
		if err := <-done; !errors.Is(err, boom) {
			t.Errorf("when writing is given up it says %v", err)
		}
	})
}

func TestWatchSeesTheReaderGoWhileNothingIsWritten(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s sink, r *os.File) {
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		gone := make(chan struct{})
		wg.Go(func() { s.watch(ctx, func() { close(gone) }) })
		select {
		case <-gone:
			t.Fatal("gone too early")
		case <-time.After(20 * time.Millisecond): // it may take that for there
		}
		_ = r.Close()
		<-gone
	})
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s sink, _ *os.File) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { // waited for below
			defer close(ended)
			s.watch(ctx, func() { t.Error("the reader is still there") })
		}()
		cancel()
		<-ended
	})
}

func TestFilesAndBufferedPipesCountWhatIsWritten(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	regular, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer regular.Close()
	var b strings.Builder
	for name, s := range map[string]sink{"pipe": newSink(w, true), "file": newSink(regular, false), "writer": newSink(&b, false)} {
		if err := s.put(t.Context(), t.Context(), []byte("hello\n")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.prefetch() != filePrefetch || s.onTerminal() {
			t.Errorf("%s: prefetch %d, on a terminal %v", name, s.prefetch(), s.onTerminal())
		}
	}
	_ = r.Close()
	s := newSink(w, true)
	if err := s.put(t.Context(), t.Context(), []byte("x")); !errors.Is(err, errReaderGone) {
		t.Errorf("without a reader it says %v", err)
	}
	gone := false
	s.watch(t.Context(), func() { gone = true })
	if !gone {
		t.Error("a buffered pipe does not notice that its reader has gone")
	}
}

func TestAFullDiskIsNotAReaderThatHasGone(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	err = newSink(full, false).put(t.Context(), t.Context(), []byte("x"))
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, errReaderGone) {
		t.Errorf("put says %v", err)
	}
}

func BenchmarkPut(b *testing.B) {
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, r) })
	s := newSink(w, false)
	for b.Loop() {
		if err := s.put(b.Context(), b.Context(), []byte("hello\n")); err != nil {
			b.Fatal(err)
		}
	}
	_ = w.Close()
	wg.Wait()
}
