package mqtest

import (
	"sort"

	"github.com/mqkit/mqkit/internal/wire"
)

// confirms keeps a channel's two counts of its publishes apart: the client's,
// which counts all that it sends, and the broker's, which counts what the stage
// has passed on to it. They are the same until a publish is dropped, refused by
// the stage, or passed on twice.
//
// Its second half is honest about multiple: an ack is said for a range only if
// nothing in it is still open for the client.
type confirms struct {
	on   bool
	base uint64 // the client's number of pubs[0]
	pubs []pub  // the client's, without a gap; the first is open
	last uint64 // the broker's number of the last that was passed on
}

// pub is one publish.
type pub struct {
	broker uint64 // its number there; of one not passed on, that of the one before
	copies uint8  // how often it was passed on
	state  pubState
	asked  *Event // nil: nobody was looking
}

type pubState uint8

const (
	pubWaiting  pubState = iota // for the broker
	pubLost                     // never to be confirmed
	pubResolved                 // by the broker; the client does not know
	pubDone                     // the client knows
)

// next is the number that the client gives its next publish, 0 without confirms.
func (c *confirms) next() uint64 {
	if !c.on {
		return 0
	}
	return c.base + uint64(len(c.pubs))
}

func (c *confirms) enable() {
	if !c.on {
		*c = confirms{on: true, base: 1}
	}
}

// published notes a publish that is passed on that many times.
func (c *confirms) published(copies int, asked *Event) {
	if !c.on {
		return
	}
	p := pub{broker: c.last + 1, copies: uint8(copies), asked: asked}
	if copies == 0 {
		p.broker, p.state = c.last, pubLost
	}
	c.last += uint64(copies)
	c.pubs = append(c.pubs, p)
}

// resolve takes the broker's verdict and returns the numbers of the client's that
// it is about, in order.
func (c *confirms) resolve(tag uint64, multiple bool, numbers []uint64) []uint64 {
	if multiple {
		for i := range c.pubs {
			p := &c.pubs[i]
			if p.broker > tag && tag != 0 {
				break
			}
			if p.state == pubWaiting {
				p.state = pubResolved
				numbers = append(numbers, c.base+uint64(i))
			}
		}
		return numbers
	}
	// The last one at or below the tag that was passed on.
	i := sort.Search(len(c.pubs), func(i int) bool { return c.pubs[i].broker > tag }) - 1
	for i >= 0 && c.pubs[i].copies == 0 {
		i--
	}
	if i < 0 || c.pubs[i].state != pubWaiting || tag >= c.pubs[i].broker+uint64(c.pubs[i].copies) {
		return numbers // the second copy, or one that the broker was never sent
	}
	c.pubs[i].state = pubResolved
	return append(numbers, c.base+uint64(i))
}

// at returns an open publish by the client's number, nil if it is settled.
func (c *confirms) at(number uint64) *pub {
	if number < c.base || number >= c.base+uint64(len(c.pubs)) {
		return nil
	}
	return &c.pubs[number-c.base]
}

// settled notes that the client is told of a number.
func (c *confirms) settled(number uint64) {
	p := c.at(number)
	if p == nil {
		return
	}
	p.state, p.asked = pubDone, nil
	n := 0
	for n < len(c.pubs) && c.pubs[n].state == pubDone {
		n++
	}
	if n == 0 {
		return
	}
	c.base += uint64(n)
	c.pubs = c.pubs[n:]
	if len(c.pubs) == 0 {
		c.pubs = c.pubs[:0:cap(c.pubs)]
	}
}

// verdict is what the client is to be told of one publish.
type verdict struct {
	number uint64
	nack   bool
}

// say returns the frames that tell the client a list of verdicts, in order, and
// notes them as told. A range is said at once where it begins at the oldest open
// number and leaves none out, not even one that the client has been told of: the
// driver would take back a nack that it was given before an ack for many.
func (c *confirms) say(channel uint16, list []verdict) (frames [][]byte) {
	for len(list) > 0 {
		run := 1
		for run < len(list) && list[run].nack == list[0].nack && list[run].number == list[run-1].number+1 {
			run++
		}
		if list[0].number != c.base {
			run = 1
		}
		last := list[run-1]
		frames = append(frames, confirmFrame(channel, last, run > 1))
		for _, v := range list[:run] {
			c.settled(v.number)
		}
		list = list[run:]
	}
	return frames
}

// same tells whether the client can be told with the broker's own tag: its number
// is the client's, and no older one is left open by a verdict on many.
func (c *confirms) same(tag uint64, multiple bool, numbers []uint64) bool {
	if len(numbers) == 0 || numbers[len(numbers)-1] != tag {
		return false
	}
	if !multiple {
		return len(numbers) == 1
	}
	if numbers[0] != c.base {
		return false
	}
	for i := 1; i < len(numbers); i++ {
		if numbers[i] != numbers[i-1]+1 {
			return false
		}
	}
	return true
}

func confirmFrame(channel uint16, v verdict, multiple bool) []byte {
	if v.nack {
		return wire.AppendMethod(nil, channel, &wire.BasicNack{DeliveryTag: v.number, Multiple: multiple})
	}
	return wire.AppendMethod(nil, channel, &wire.BasicAck{DeliveryTag: v.number, Multiple: multiple})
}
