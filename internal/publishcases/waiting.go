package publishcases

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mqkit/mqkit/producer"
	"github.com/mqkit/mqkit/reconnect"
)

// block has an alarm block the connection: the broker says so when a message has begun
// to arrive, and takes it when the alarm is over.
func (s *stand) block() (first *producer.Confirmation) {
	s.t.Helper()
	s.Alarm(s.t, true)
	first = s.publish("first")[0]
	s.await(reconnect.Blocked, 1)
	s.pending(first)
	return first
}

func withdrawnWhileDown(s *stand) {
	s.open(producer.Config{})
	s.verdict(s.publish("before")[0], producer.Confirmed)
	s.goDown()
	c := s.publish("withdrawn")[0]
	s.notSent(c.Withdraw(), producer.ErrNotSent)
	s.comeBack()
	s.verdict(s.publish("after")[0], producer.Confirmed)
	s.holds("before", "after")
}

func withdrawnWhileBlocked(s *stand) {
	s.open(producer.Config{})
	first := s.block()
	c := s.publish("withdrawn")[0]
	s.notSent(c.Withdraw(), producer.ErrNotSent)
	s.Alarm(s.t, false)
	s.verdict(first, producer.Confirmed)
	s.verdict(s.publish("after")[0], producer.Confirmed)
	s.holds("first", "after")
}

func withdrawnWhileUnconfirmed(s *stand) {
	s.open(producer.Config{})
	lost := s.unconfirmed(1)
	c := s.publish("withdrawn")[0]
	s.struck(lost)
	if err := c.Withdraw(); !errors.Is(err, producer.ErrUnconfirmed) || producer.SafeToRetry(err) || c.Verdict() != producer.Unknown {
		s.t.Errorf("%v", err)
	}
	s.goDown() // it is not sent again
	s.comeBack()
	s.verdict(s.publish("after")[0], producer.Confirmed)
	s.holds("withdrawn", "after")
}

func failFastWhileDown(s *stand) {
	s.open(producer.Config{FailFast: true})
	lost := s.unconfirmed(1)
	sent := s.publish("sent")[0]
	s.struck(lost)
	s.goDown()
	s.await(reconnect.Waiting, 5) // it is queued again by now, and the connection is still down
	_, err := s.PublishAsync(context.Background(), s.text("down"))
	s.notSent(err, producer.ErrNotSent)
	if !strings.Contains(err.Error(), "the publishing connection is ") {
		s.t.Errorf("it does not say what is wrong: %v", err)
	}
	_, err = s.TryPublish(s.text("down, too"))
	s.notSent(err, producer.ErrNotSent)
	s.pending(sent) // what was sent is not given up
	s.comeBack()
	s.verdict(sent, producer.Confirmed)
	s.verdict(s.publish("after")[0], producer.Confirmed)
	if got, want := s.stored(), map[string]int{"sent": 2, "after": 1}; len(differences(got, want))+len(differences(want, got)) > 0 {
		s.t.Errorf("stored are %v, want %v", got, want)
	}
}

func failFastWhileBlocked(s *stand) {
	s.open(producer.Config{FailFast: true})
	first := s.block()
	_, err := s.PublishAsync(context.Background(), s.text("blocked"))
	s.notSent(err, producer.ErrNotSent)
	_, err = s.TryPublish(s.text("blocked, too"))
	s.notSent(err, producer.ErrNotSent)
	s.pending(first)
	s.Alarm(s.t, false)
	s.verdict(first, producer.Confirmed)
	s.await(reconnect.Connected, 2)
	s.verdict(s.publish("after")[0], producer.Confirmed)
	s.holds("first", "after")
}

func noRoomInMessages(s *stand) {
	s.turnedAway(producer.Config{MaxInFlight: 3}, 3, 1)
}

func noRoomInBytes(s *stand) {
	const body = 10_000
	s.turnedAway(producer.Config{MaxInFlightBytes: 2*body + body/2}, 2, body)
}

// turnedAway has n messages of that size in flight, which is all there is room for.
func (s *stand) turnedAway(cfg producer.Config, n, size int) {
	s.t.Helper()
	s.open(cfg)
	sized := func(id string) producer.Message {
		m := s.text(id + strings.Repeat(" ", size-1))
		m.MessageID = id
		return m
	}
	var kept []string
	for round := range 2 { // there is as much room as before
		held := s.heldBack()
		var cs []*producer.Confirmation
		for _, id := range numbered(fmt.Sprint(round, "/"), n) {
			m := sized(id)
			c, err := s.TryPublish(m)
			s.must(err)
			cs, kept = append(cs, c), append(kept, string(m.Body))
		}
		s.struck(held)
		for range 2 {
			_, err := s.TryPublish(sized("x"))
			s.notSent(err, producer.ErrFull)
		}
		if got := s.Stats(); got.InFlight != n || got.NotSent != uint64(2+2*round) {
			s.t.Errorf("%+v", got)
		}
		held.Release()
		for _, c := range cs {
			s.verdict(c, producer.Confirmed)
		}
	}
	s.holds(kept...)
}

// closedBeforeTheVerdicts: some have theirs, some have lost it, and some were never sent.
func closedBeforeTheVerdicts(s *stand) {
	s.open(producer.Config{})
	lost := s.unconfirmed(10)
	sent := s.publish(numbered("sent ", 30)...)
	s.struck(lost)
	for _, c := range sent[10:] {
		s.verdict(c, producer.Confirmed)
	}
	s.goDown()
	waiting := s.publish(numbered("waiting ", 7)...)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.Close(ctx)
	var left *producer.UnresolvedError
	if !errors.As(err, &left) || left.Unknown != 10 || left.NotSent != 7 || !errors.Is(err, context.Canceled) {
		s.t.Errorf("Close returned %v, want 10 unknown and 7 not sent", err)
	}
	for _, c := range sent[:10] {
		if err := s.verdict(c, producer.Unknown); !errors.Is(err, producer.ErrUnconfirmed) {
			s.t.Error(err)
		}
	}
	for _, c := range waiting {
		s.notSent(c.Err(), context.Canceled)
	}
	s.comeBack()
	s.holds(numbered("sent ", 30)...)
}
