package consumer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/internal/sendable"
	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

// Unlimited is a Config.Prefetch that has the broker send everything it has; it
// is all kept in memory.
const Unlimited = -1

const (
	defaultWorkers       = 1
	defaultPrefetch      = 100
	mostPrefetch         = 65535 // it is a short
	defaultFlushInterval = 2 * time.Millisecond

	// defaultHandlerTimeout is half of what RabbitMQ gives a consumer for an ack.
	defaultHandlerTimeout = 15 * time.Minute

	// defaultDrainTimeout leaves time within the 30 s that Kubernetes gives a
	// process to end.
	defaultDrainTimeout = 25 * time.Second

	// What failed without a policy is given out again after a pause, see
	// Handler.
	pauseFirst   = 100 * time.Millisecond
	pauseLongest = 30 * time.Second

	consumerPriority = "x-priority" // the argument of basic.consume
)

// Config says what is consumed and how. It needs Queue or Declare.
type Config struct {
	// Queue is the name of the queue to consume. Defaults to Declare's.
	Queue string

	// Declare is a queue that belongs to the session (exclusive, auto-delete or
	// server-named): it is declared at the beginning of each, on its own channel,
	// with Bindings, and consumed. One that the broker names is taken up again as long as
	// its connection lives. Shared, durable entities, and the exchanges that
	// Bindings name, fit better into reconnect.Config.Topology. Defaults to none.
	Declare *topology.Queue

	// Bindings are declared with Declare; their Queue is left empty.
	Bindings []topology.Binding

	// Workers is how many handlers run at once. One worker keeps the order of
	// the queue. After a lost connection that takes a queue with a single active consumer:
	// without, RabbitMQ may serve the next session before it has noticed the end of the
	// old one, and what that held comes behind newer ones. Defaults to 1.
	Workers int

	// OrderBy gives the key within which order is kept while many workers run:
	// deliveries of one key go to one worker, in the order in which they come, see
	// Workers. A delivery that failed and is given
	// out again comes after later ones of its key. It is called by the goroutine that
	// reads the session's deliveries: while it blocks, nothing more is handed out, and
	// neither a broker's cancel nor the end of Run's ctx is heeded. Two calls may run at
	// once, when one session ends beside its successor. If it panics, that is
	// logged, and the delivery has the key "". Defaults to no keys: any free worker takes
	// the next delivery.
	OrderBy func(*Delivery) string

	// Prefetch is how many deliveries the broker may send ahead of their
	// settlement. A small value shares work fairly among consumers with slow
	// handlers, 1 most of all; a large one keeps fast handlers busy. A delivery whose
	// handler has failed counts until it is released, and on a quorum queue it is then
	// the first again: from RabbitMQ 4.3 on, as many messages that always fail as
	// Prefetch keep all others waiting, see Handler. Unlimited is possible, but for a
	// stream. Defaults to 100, or to Workers if that is more, up to AMQP's 65535.
	Prefetch int

	// Exclusive makes this the only consumer of the queue. Defaults to false.
	Exclusive bool

	// Priority is the consumer's, x-priority: those of a higher one get deliveries first.
	// Defaults to 0.
	Priority int

	// Offset is where consuming a stream begins: see OffsetFirst and its like. After a lost
	// session it goes on behind what was done; if nothing had come, with what was published
	// since it was subscribed, or, where it was for less than ten seconds, since up to ten
	// seconds before: the broker's clock may be behind. A stream is read without being emptied,
	// and its deliveries can only be acked: a handler that fails is called again
	// with the same delivery, after the pause. Defaults to the broker's: what is
	// published from now on.
	Offset Offset

	// Arguments are passed to basic.consume as they are; x-stream-offset is taken for Offset.
	// Defaults to none.
	Arguments amqp.Table

	// DeadLetters says that the queue has a dead-letter exchange although
	// neither Declare nor the pool's topology tell. Defaults to false.
	DeadLetters bool

	// FlushInterval is how long a finished delivery may wait for others so that
	// one ack covers them. Defaults to 2ms.
	FlushInterval time.Duration

	// HandlerTimeout is how long a handler may take: then its ctx ends, with the cause
	// ErrHandlerTimeout. One that does not heed its ctx holds only its worker; Status
	// shows it. It should be shorter than the time in which the broker wants an
	// ack, 30 minutes as RabbitMQ is installed. Defaults to 15m; negative means no limit.
	HandlerTimeout time.Duration

	// DrainTimeout bounds how long handlers may run on, counted from the end of Run's
	// ctx. Defaults to 25s.
	DrainTimeout time.Duration

	// OnDelivery is called with every delivery that comes, and OnSettlement with what
	// became of each, in the order in which that happens, from one goroutine of Run that
	// holds no lock. While one blocks, those after it wait in memory, and so
	// does the end of Run; nothing else does. A panic in one is not recovered, unlike a
	// handler's: it ends the process. For what belongs around a handler, such as
	// a span or a timer, a func(Handler) Handler is the better place.
	OnDelivery   func(Receipt)
	OnSettlement func(Settlement)

	// Logger gets subscriptions at Info, handlers' failures and lost
	// subscriptions at Warn, panics with their stack at Error. Defaults to the
	// pool's.
	Logger *slog.Logger
}

func (cfg Config) withDefaults(pool *reconnect.Pool) (Config, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case cfg.Declare == nil && cfg.Queue == "":
		fault("the queue is missing: name it in Queue, or give one in Declare")
	case cfg.Declare == nil && len(cfg.Bindings) > 0:
		fault("Bindings belong to the queue in Declare, and there is none")
	case cfg.Declare != nil:
		keeps := topology.Topology{Queues: []topology.Queue{*cfg.Declare}, Bindings: cfg.Bindings}.Clone()
		own := keeps.Queues[0]
		cfg.Declare, cfg.Bindings = &own, keeps.Bindings
		if cfg.Queue != "" && cfg.Queue != own.Name {
			fault("Queue is %q and Declare %q: name one", cfg.Queue, own.Name)
		}
		cfg.Queue = own.Name
		if err := own.Validate(cfg.Bindings...); err != nil {
			fault("Declare: %w", err)
		}
	}
	if len(cfg.Queue) > sendable.MaxShortString {
		fault("the queue's name has %d bytes: AMQP allows %d", len(cfg.Queue), sendable.MaxShortString)
	}
	if !utf8.ValidString(cfg.Queue) {
		fault("the queue's name %.60q is not valid UTF-8, at which the broker closes the connection", cfg.Queue)
	}
	if _, twice := cfg.Arguments[streamOffset]; twice && !cfg.Offset.isZero() {
		fault("Arguments has %s, and Offset is set: use one", streamOffset)
	}
	if _, twice := cfg.Arguments[consumerPriority]; twice && cfg.Priority != 0 {
		fault("Arguments has %s, and Priority is set: use one", consumerPriority)
	}
	if cfg.Offset.fault != "" {
		fault("Offset is %s", cfg.Offset.fault)
	}
	if arguments, size, err := sendable.Table(cfg.Arguments, ""); err != nil {
		fault("Arguments: %w", err)
	} else if size > sendable.MaxTable {
		fault("Arguments are %d bytes encoded: a frame has room for %d", size, sendable.MaxTable)
	} else {
		cfg.Arguments = arguments
		if o, ok := arguments[streamOffset]; ok {
			cfg.Offset = Offset{value: o, text: fmt.Sprint(o)}
			delete(arguments, streamOffset)
		}
	}
	if cfg.Workers < 0 {
		fault("Workers is %d: must not be negative", cfg.Workers)
	}
	if cfg.Workers == 0 {
		cfg.Workers = defaultWorkers
	}
	if cfg.HandlerTimeout == 0 {
		cfg.HandlerTimeout = defaultHandlerTimeout
	}
	switch {
	case cfg.Prefetch == Unlimited && cfg.isStream(pool):
		fault("Prefetch is Unlimited: RabbitMQ wants a bound for a stream")
	case cfg.Prefetch == 0:
		cfg.Prefetch = min(max(defaultPrefetch, cfg.Workers), mostPrefetch)
	case cfg.Prefetch < Unlimited:
		fault("Prefetch is %d: must be positive, or Unlimited", cfg.Prefetch)
	case cfg.Prefetch > mostPrefetch:
		fault("Prefetch is %d: AMQP allows %d, or Unlimited", cfg.Prefetch, mostPrefetch)
	}
	for _, d := range []struct {
		name string
		v    *time.Duration
		or   time.Duration
	}{
		{"FlushInterval", &cfg.FlushInterval, defaultFlushInterval},
		{"DrainTimeout", &cfg.DrainTimeout, defaultDrainTimeout},
	} {
		if *d.v < 0 {
			fault("%s is %v: must not be negative", d.name, *d.v)
		}
		if *d.v == 0 {
			*d.v = d.or
		}
	}
	if len(faults) > 0 {
		return cfg, fmt.Errorf("invalid consumer configuration: %w", errors.Join(faults...))
	}
	if cfg.Logger == nil {
		cfg.Logger = pool.Logger()
	}
	return cfg, nil
}

// known is what Declare or the pool's topology say of the queue, if they do.
func (cfg *Config) known(pool *reconnect.Pool) (q topology.Queue, ok bool) {
	if cfg.Declare != nil {
		return *cfg.Declare, true
	}
	return pool.Topology().Queue(cfg.Queue)
}
