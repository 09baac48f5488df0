package engine

// transaction is what a channel in tx mode holds back until commit.
type transaction struct {
	publishes []txPublish
	verdicts  []settlement
}

type txPublish struct {
	msg       *message
	queues    []*queue // as it was routed when it was published
	mandatory bool
}

type settlement struct {
	e *entry
	v verdict
}

func (t *transaction) settled() []*entry {
	es := make([]*entry, len(t.verdicts))
	for i, s := range t.verdicts {
		es[i] = s.e
	}
	return es
}

// TxSelect puts the channel into tx mode.
func (ch *Channel) TxSelect() *Exception {
	return ch.do(func(*vhost) *Exception {
		if ch.confirms {
			return NewException(codePreconditionFailed, "cannot switch from confirm to tx mode")
		}
		if ch.tx == nil {
			ch.tx = &transaction{}
		}
		return nil
	})
}

func (ch *Channel) checkTx() *Exception {
	if ch.tx == nil {
		return NewException(codePreconditionFailed, "channel is not transactional")
	}
	return nil
}

// TxCommit carries out what was published and settled since the last one.
func (ch *Channel) TxCommit() *Exception {
	return ch.do(func(*vhost) *Exception {
		if e := ch.checkTx(); e != nil {
			return e
		}
		t := ch.tx
		refused := false
		for _, p := range t.publishes {
			refused = ch.store(p.msg, p.queues, p.mandatory) || refused
			ch.broker.run()
		}
		ch.tx = nil
		for _, s := range t.verdicts {
			ch.apply(s.e, s.v)
		}
		ch.tx = &transaction{}
		if refused {
			return NewException(codePreconditionFailed, "partial tx completion")
		}
		return nil
	})
}

// TxRollback forgets what was published, and holds again what was settled.
func (ch *Channel) TxRollback() *Exception {
	return ch.do(func(*vhost) *Exception {
		if e := ch.checkTx(); e != nil {
			return e
		}
		ch.unacked.merge(ch.tx.settled())
		ch.tx = &transaction{}
		return nil
	})
}
