package main

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pipeUsage = `Into a pipe mqsub writes one message at a time and acks it when the reader has
taken it, so that "mqsub -q orders | head -3" takes exactly three messages. In a
file that ends within a line, as a full disk leaves it, it begins a new one.`

	pipeBufferedUsage = "into a pipe: ack what is written, although its reader may stop before it reads that; faster"
)

const (
	// atomicWrite is what a pipe with room takes at once: PIPE_BUF. Writing no more at
	// a time keeps every write from blocking, so that it can be ended.
	atomicWrite = 4096

	// pollInterval is how long a poll lasts before it looks whether it is still
	// wanted.
	pollInterval = 100 * time.Millisecond

	// The wait for the reader begins with short looks, for readers that take
	// microseconds, and ends with longer ones, for those that take seconds.
	lookFirst   = 10 * time.Microsecond
	lookLongest = 20 * time.Millisecond

	// pipePrefetch keeps a quick reader busy while acks travel, and leaves most
	// of the queue to others while a slow one works.
	pipePrefetch = 50
)

// pipe is a pipe, or a socket, whose reader takes one record at a time.
type pipe struct {
	f      *os.File
	fd     int
	socket bool
}

// newSink says what stdout is.
func newSink(stdout io.Writer, buffered bool) sink {
	f, ok := stdout.(*os.File)
	if !ok {
		return newFile(stdout)
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return newFile(stdout)
	}
	p := &pipe{f: f, fd: int(f.Fd()), socket: info.Mode()&os.ModeSocket != 0}
	if _, err := p.unread(); err != nil || buffered {
		return &bufferedPipe{file: newFile(stdout), pipe: p}
	}
	return p
}

// bufferedPipe is written to like a file; a reader that has gone is noticed.
type bufferedPipe struct {
	*file
	pipe *pipe
}

func (b *bufferedPipe) watch(ctx context.Context, gone func()) { b.pipe.watch(ctx, gone) }

func (p *pipe) prefetch() int { return pipePrefetch }

func (p *pipe) onTerminal() bool { return false }

func (p *pipe) put(write, session context.Context, record []byte) error {
	for len(record) > 0 {
		if err := p.room(write); err != nil {
			return err
		}
		n, err := p.f.Write(record[:min(len(record), atomicWrite)])
		record = record[n:]
		if err != nil && !errors.Is(err, syscall.EAGAIN) { // as somebody may have made it non-blocking
			return writeError(err)
		}
	}
	return p.taken(session)
}

// room waits until a write will not block.
func (p *pipe) room(ctx context.Context) error {
	for {
		events, err := p.poll(unix.POLLOUT, pollInterval)
		switch {
		case err != nil:
			return err
		case events&hungUp != 0:
			return errReaderGone
		case events&unix.POLLOUT != 0:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

// taken waits until the reader has read everything. What it has not read of a
// pipe stays there to be counted when it goes; a socket is emptied then, so there
// the reader has to be there still.
func (p *pipe) taken(ctx context.Context) error {
	wait := lookFirst
	for {
		n, err := p.unread()
		if err != nil {
			return err
		}
		if n == 0 && !p.socket {
			return nil
		}
		gone, err := p.readerGone()
		switch {
		case err != nil:
			return err
		case gone && p.socket:
			return errReaderGone
		case gone: // perhaps it has read the rest since we looked
			if n, err = p.unread(); err == nil && n > 0 {
				err = errReaderGone
			}
			return err
		case n == 0:
			return nil
		case ctx.Err() != nil:
			return errNotTaken
		}
		pause(ctx, wait)
		wait = min(2*wait, lookLongest)
	}
}

func pause(ctx context.Context, d time.Duration) {
	if d < time.Millisecond {
		time.Sleep(d)
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// watch waits in one poll for the reader to go, and for ctx to close a pipe of our
// own.
func (p *pipe) watch(ctx context.Context, gone func()) {
	r, w, err := os.Pipe()
	if err != nil {
		return // the next write will tell
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	defer func() {
		if stop() {
			_ = w.Close()
		}
	}()
	fds := []unix.PollFd{{Fd: int32(p.fd)}, {Fd: int32(r.Fd())}}
	for ctx.Err() == nil {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
		if fds[0].Revents&hungUp != 0 {
			gone()
			return
		}
	}
}

const hungUp = unix.POLLERR | unix.POLLHUP | unix.POLLNVAL

// readerGone reports whether nobody can read any more.
func (p *pipe) readerGone() (bool, error) {
	events, err := p.poll(0, 0)
	return events&hungUp != 0, err
}

func (p *pipe) poll(events int16, d time.Duration) (int16, error) {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: events}}
	_, err := unix.Poll(fds, int(d.Milliseconds()))
	if errors.Is(err, syscall.EINTR) {
		return 0, nil
	}
	return fds[0].Revents, os.NewSyscallError("poll", err)
}

// unread is how many bytes the reader has not read yet: FIONREAD, which Linux
// answers on the writing end too.
func (p *pipe) unread() (int, error) {
	request := uint(unix.TIOCINQ)
	if p.socket {
		request = unix.TIOCOUTQ
	}
	n, err := unix.IoctlGetInt(p.fd, request)
	return n, os.NewSyscallError("ioctl", err)
}
