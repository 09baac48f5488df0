package producer

// HeaderSize is what a Producer takes the encoded content header of m for, with
// all that it keeps free.
func HeaderSize(m Message) (int, error) {
	_, size, err := check(&m)
	return size, err
}

// KeptFree is what HeaderSize has in it for the correlation header.
const KeptFree = correlationSize

// CorrelationHeader is the name of the private header.
const CorrelationHeader = correlationHeader

// PendingConfirmation returns one that never gets its verdict.
func PendingConfirmation() *Confirmation { return &Confirmation{done: make(chan struct{})} }

// HandedOver is how many messages the present session has in its window.
func HandedOver(p *Producer) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil {
		return 0
	}
	return len(p.session.window.entries())
}
