package mqtest

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/engine"
)

// Broker is an AMQP 0-9-1 broker in this process that behaves as RabbitMQ does.
// Everything is in memory.
type Broker struct {
	*Stage

	engine  *engine.Broker
	server  amqpserver.Config
	leadsTo string // the vhost of the URL

	mu       sync.Mutex // guards what follows, and is held until all connections know of it
	blocking string     // reason of Block; "" is none
}

// New starts a broker for a test, which ends with it: whatever still is connected
// is cut off. If the test has failed, the end of the journal is logged. There is
// at most one Config.
func New(tb TB, cfg ...Config) *Broker {
	tb.Helper()
	return newBroker(tb, false, cfg)
}

// NewInMemory is New without a port: Dial and DialContext are the only way in, and everything
// happens by goroutines, channels and timers of the caller's, so that it works
// inside a bubble of testing/synctest, where time takes no time.
func NewInMemory(tb TB, cfg ...Config) *Broker {
	tb.Helper()
	return newBroker(tb, true, cfg)
}

func newBroker(tb TB, memory bool, cfg []Config) *Broker {
	tb.Helper()
	var c Config
	if len(cfg) > 0 {
		c = cfg[0]
	}
	var unknown func(string)
	if c.Strict {
		unknown = func(arg string) { tb.Errorf("mqtest: RabbitMQ would ignore the argument %q", arg) }
	}
	b, err := start(c, memory, newJournal(c.Journal), unknown)
	if err != nil {
		tb.Fatalf("mqtest: %v", err)
	}
	tb.Cleanup(func() {
		b.logTail(tb)
		b.Close()
	})
	return b
}

// Start starts a broker for a program, which closes it.
func Start(cfg Config) (*Broker, error) {
	var j *Journal
	if cfg.Journal != 0 {
		j = newJournal(cfg.Journal)
	}
	return start(cfg, false, j, nil)
}

func start(cfg Config, memory bool, j *Journal, unknown func(string)) (*Broker, error) {
	rules, version, err := cfg.rules()
	if err == nil {
		err = cfg.validate()
	}
	if err != nil {
		return nil, err
	}
	b := &Broker{leadsTo: "/"}
	b.Stage = &Stage{connect: b.serve, journal: j, tls: cfg.TLS, memory: memory, conns: map[int]*conn{}}
	b.user = url.UserPassword("guest", "guest")
	if len(cfg.Users) > 0 {
		name := slices.Sorted(maps.Keys(cfg.Users))[0]
		b.user = url.UserPassword(name, cfg.Users[name])
	}
	if len(cfg.Vhosts) > 0 && !slices.Contains(cfg.Vhosts, "/") {
		b.leadsTo = cfg.Vhosts[0]
		b.vhost = url.PathEscape(b.leadsTo)
	}
	options := engine.Options{
		Rules: rules, Vhosts: cfg.Vhosts, DenyTransientQueues: cfg.DenyTransientQueues,
		MaxMessageSize: cfg.MaxMessageSize, ConsumerTimeout: cfg.ConsumerTimeout, Unknown: unknown,
	}
	if j != nil {
		options.Event = b.record
	}
	b.engine = engine.New(options)
	b.server = amqpserver.Config{
		Broker: b.engine, Authenticate: cfg.authenticate(), Authorize: cfg.Authorize, UpdateSecret: cfg.UpdateSecret,
		Tune:       amqpserver.Tune{ChannelMax: cfg.ChannelMax, FrameMax: cfg.FrameMax, Heartbeat: cfg.Heartbeat},
		Mechanisms: cfg.mechanisms(), Version: version, MaxMessageSize: cfg.MaxMessageSize,
	}
	listen := cfg.Listen
	if memory {
		if listen == "" {
			listen = "mqtest.invalid:5672"
		}
		b.addr, b.open = listen, true
		return b, nil
	}
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	if err := b.listen(listen); err != nil {
		b.engine.Close()
		return nil, err
	}
	return b, nil
}

// serve is the stage's connect.
func (b *Broker) serve(c *conn) (upstream, error) {
	cfg := b.server
	cfg.Name = strconv.Itoa(c.id)
	u := newEmbedded(c, cfg)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.blocking != "" {
		u.server.BlockPublisher(b.blocking)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocking != "" {
		u.server.Block(c.blocking)
	}
	return u, nil
}

// record is the engine's Event: it is called under its lock.
func (b *Broker) record(e engine.Event) {
	conn, _ := strconv.Atoi(e.Conn)
	b.journal.add(Record{
		Kind: QueueEvent, Conn: conn, Channel: e.Channel, Detail: e.Kind.String(), Vhost: e.Vhost, Queue: e.Queue,
		Exchange: e.Exchange, RoutingKey: e.RoutingKey, MessageID: e.MessageID, ConsumerTag: e.ConsumerTag,
		Tag: e.Tag, Redelivered: e.Redelivered, Reason: e.Reason, Body: e.Body,
	})
}

// Close ends the broker and its connections, and waits for their goroutines.
func (b *Broker) Close() {
	b.running.Lock()
	defer b.running.Unlock()
	b.shut(true)
	b.engine.Close()
}

// Stop ends all connections and closes the port, as a broker that is killed
// does. What Restart would lose is lost.
func (b *Broker) Stop() {
	b.running.Lock()
	defer b.running.Unlock()
	b.stopLocked()
}

func (b *Broker) stopLocked() {
	if b.stopped {
		return
	}
	b.stopped = true
	b.engine.Kill()
	b.shut(false)
	b.engine.Restart()
	b.journal.add(Record{Kind: QueueEvent, Detail: "restarted"})
}

// Restart is Stop, unless it is stopped already, and a new start on the same
// port. Durable exchanges, queues and bindings are there again, and so are
// persistent messages, and all of those in quorum queues and streams.
func (b *Broker) Restart() error {
	b.running.Lock()
	defer b.running.Unlock()
	b.stopLocked()
	if err := b.acceptConnections(); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	return nil
}

// Block blocks publishers, as an alarm does: a connection that publishes from now
// on is told so, and nothing more is read from it, not even the end of that
// publish, and no acks. Other connections go on. A reason of "" is "low on
// memory".
func (b *Broker) Block(reason string) {
	reason = blockReason(reason)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocking = reason
	for _, c := range b.all() {
		if u := c.server.Load(); u != nil {
			u.server.BlockPublisher(reason)
		}
	}
}

// Unblock undoes Block, and what [Connection.Block] has done.
func (b *Broker) Unblock() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocking = ""
	for _, c := range b.all() {
		c.unblock()
	}
}

// AddVhost creates a vhost. Queues that are declared in it without x-queue-type
// are of the given type; "" is classic.
func (b *Broker) AddVhost(name, queueType string) { b.engine.AddVhost(name, queueType) }

// DeleteVhost deletes a vhost with all that is in it, and closes the connections
// to it. It is false if there was none.
func (b *Broker) DeleteVhost(name string) bool { return b.engine.DeleteVhost(name) }

// Queue returns a handle of a queue, which need not exist, in the vhost that the URL
// leads to: "/", unless Config.Vhosts are others.
func (b *Broker) Queue(name string) *Queue { return b.QueueIn(b.leadsTo, name) }

// QueueIn returns a handle of a queue in any vhost.
func (b *Broker) QueueIn(vhost, name string) *Queue { return &Queue{b: b, vhost: vhost, name: name} }

// Queues returns what is known of the queues of a vhost, by name.
func (b *Broker) Queues(vhost string) []QueueInfo {
	var list []QueueInfo
	for _, q := range b.engine.Queues(vhost) {
		list = append(list, queueInfo(q))
	}
	return list
}

// Exchange is an exchange as it is now.
type Exchange struct {
	Name, Type                    string
	Durable, AutoDelete, Internal bool
	Arguments                     map[string]any
}

// Exchanges returns the exchanges of a vhost, by name; the default one comes
// first.
func (b *Broker) Exchanges(vhost string) []Exchange {
	var list []Exchange
	for _, x := range b.engine.Exchanges(vhost) {
		list = append(list, Exchange{x.Name, x.Type, x.Durable, x.AutoDelete, x.Internal, arguments(x.Arguments)})
	}
	return list
}

// Binding is a binding as it is now.
type Binding struct {
	Source, Destination string
	ToExchange          bool // the destination is an exchange
	RoutingKey          string
	Arguments           map[string]any
}

// Bindings returns the bindings of a vhost, by source and age, without those of
// the default exchange.
func (b *Broker) Bindings(vhost string) []Binding {
	var list []Binding
	for _, x := range b.engine.Bindings(vhost) {
		list = append(list, Binding{x.Source, x.Destination, x.ToExchange, x.RoutingKey, arguments(x.Arguments)})
	}
	return list
}

// Consumer is a consumer as it is now.
type Consumer struct {
	Queue, Tag       string
	Conn             int
	Channel          uint16
	NoAck, Exclusive bool
	Prefetch         int
	Priority         int
	Active           bool // false: it waits behind a single active consumer, or has timed out
	Unacked          int
	Arguments        map[string]any
}

// Consumers returns the consumers of a vhost, by queue and age.
func (b *Broker) Consumers(vhost string) []Consumer {
	var list []Consumer
	for _, x := range b.engine.Consumers(vhost) {
		conn, _ := strconv.Atoi(x.Conn)
		list = append(list, Consumer{
			x.Queue, x.Tag, conn, x.Channel, x.NoAck, x.Exclusive, x.Prefetch, x.Priority, x.Active, x.Unacked,
			arguments(x.Arguments),
		})
	}
	return list
}
