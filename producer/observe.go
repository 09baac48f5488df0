package producer

import "time"

// Attempt is one message as it is handed to the connection.
type Attempt struct {
	MessageID  string
	Exchange   string
	RoutingKey string
	Number     int // 1 for the first; more when its verdict was lost with a session
	At         time.Time

	// Session and Tag are where its verdict is told: the producer's session, counted
	// from 1, and the number of its confirm there.
	Session uint64
	Tag     uint64
}

// Outcome is one message with its verdict.
type Outcome struct {
	MessageID  string
	Exchange   string
	RoutingKey string
	Bytes      int // of its body
	Attempts   int // how often it was handed to a connection; 0 if it never was
	Verdict    Verdict
	Err        error         // as Publish returns it
	Took       time.Duration // from the call of Publish on
}

// observe takes what OnAttempt and OnVerdict are told.
func (cfg *Config) observe(what any) {
	switch what := what.(type) {
	case Attempt:
		if cfg.OnAttempt != nil {
			cfg.OnAttempt(what)
		}
	case Outcome:
		if cfg.OnVerdict != nil {
			cfg.OnVerdict(what)
		}
	}
}

// observed reports whether anybody wants to know.
func (p *Producer) observed() bool { return p.observers != nil }

// attemptedLocked tells that c is being handed over.
func (s *session) attemptedLocked(c *Confirmation) {
	if s.p.cfg.OnAttempt != nil {
		s.p.observers.Tell(Attempt{c.pub.MessageId, c.exchange, c.routingKey, c.sendings, time.Now(), s.number, s.tag})
	}
}

// outcome tells of a verdict.
func (p *Producer) outcome(o Outcome, began time.Time) {
	if p.cfg.OnVerdict != nil {
		o.Took = time.Since(began)
		p.observers.Tell(o)
	}
}
