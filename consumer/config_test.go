package consumer

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/reconnect"
	"github.com/mqkit/mqkit/topology"
)

func TestConfigNamesEveryFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		claim string
		cfg   Config
		fault string
	}{
		{"no queue", Config{}, "the queue is missing"},
		{"bindings of nothing", Config{Queue: "q", Bindings: []topology.Binding{{Exchange: "x"}}}, "Bindings belong to the queue in Declare"},
		{"two queues", Config{Queue: "q", Declare: &topology.Queue{Name: "p"}}, `Queue is "q" and Declare "p"`},
		{"a queue with a fault", Config{Declare: &topology.Queue{Name: "amq.q"}}, "Declare: "},
		{"negative workers", Config{Queue: "q", Workers: -1}, "Workers is -1"},
		{"negative prefetch", Config{Queue: "q", Prefetch: -2}, "Prefetch is -2"},
		{"too large a prefetch", Config{Queue: "q", Prefetch: 65536}, "Prefetch is 65536"},
		{"a negative interval", Config{Queue: "q", FlushInterval: -1}, "FlushInterval is -1ns"},
		{"a negative timeout", Config{Queue: "q", DrainTimeout: -time.Second}, "DrainTimeout is -1s"},
		{"an argument without a sign", Config{Queue: "q", Arguments: amqp.Table{"x": uint64(1)}}, "use int64, or a string"},
		{"an argument that is no number", Config{Queue: "q", Arguments: amqp.Table{"x": math.NaN()}}, "is NaN"},
		{"an argument with a long key", Config{Queue: "q", Arguments: amqp.Table{strings.Repeat("k", 256): 1}}, "has 256 bytes"},
		{"arguments larger than a frame", Config{Queue: "q", Arguments: amqp.Table{"x": strings.Repeat("x", 200_000)}}, "a frame has room for"},
		{"two priorities", Config{Queue: "q", Priority: 1, Arguments: amqp.Table{"x-priority": 2}}, "Arguments has x-priority, and Priority is set: use one"},
		{"two offsets", Config{Queue: "q", Offset: OffsetFirst, Arguments: amqp.Table{"x-stream-offset": "next"}}, "Arguments has x-stream-offset, and Offset is set: use one"},
		{"no interval", Config{Queue: "q", Offset: OffsetInterval(0)}, "Offset is OffsetInterval(0s): must be positive; OffsetNext begins with what is published from now on"},
		{"a negative interval of a stream", Config{Queue: "q", Offset: OffsetInterval(-time.Second)}, "Offset is OffsetInterval(-1s)"},
		{"an interval of centuries", Config{Queue: "q", Offset: OffsetInterval(math.MaxInt64)}, "leads back to before 1970"},
		{"a time before all others", Config{Queue: "q", Offset: OffsetTime(time.Time{})}, "Offset is OffsetTime(0001-01-01T00:00:00Z): is before 1970; OffsetFirst begins with the oldest message"},
		{"too large an offset", Config{Queue: "q", Offset: OffsetNumber(math.MaxInt64 + 1)}, "Offset is OffsetNumber(9223372036854775808): AMQP allows 9223372036854775807"},
		{"a stream of its own without a bound", Config{Declare: &topology.Queue{Name: "q", Type: topology.Stream}, Prefetch: Unlimited}, "RabbitMQ wants a bound for a stream"},
		{"a name that is too long", Config{Queue: strings.Repeat("q", 256)}, "has 256 bytes"},
		{"a name that is no text", Config{Queue: "q\xff"}, "UTF-8"},
	} {
		c.cfg.Logger = slog.New(slog.DiscardHandler)
		if _, err := c.cfg.withDefaults(new(reconnect.Pool)); err == nil || !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: %v, want %q", c.claim, err, c.fault)
		}
	}
}

func TestPrefetchIsByDefaultAsManyAsWorkButNoMoreThanAMQPAllows(t *testing.T) {
	t.Parallel()
	for workers, want := range map[int]int{1: 100, 200: 200, 65535: 65535, 65536: 65535, 65537: 65535} {
		cfg, err := Config{Queue: "q", Workers: workers, Logger: slog.New(slog.DiscardHandler)}.withDefaults(new(reconnect.Pool))
		if err != nil || cfg.Prefetch != want {
			t.Errorf("%d workers have a prefetch of %d, %v; want %d", workers, cfg.Prefetch, err, want)
		}
	}
}

func TestConfigKeepsTheCallersArguments(t *testing.T) {
	t.Parallel()
	const large = 1 << 30
	args := amqp.Table{"n": large, "s": "t", "x-stream-offset": 7}
	cfg, err := Config{Queue: "q", Arguments: args, Logger: slog.New(slog.DiscardHandler)}.withDefaults(new(reconnect.Pool))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Arguments["n"] != int64(large) || cfg.Arguments["s"] != "t" || len(cfg.Arguments) != 2 {
		t.Errorf("sent would be %v", cfg.Arguments)
	}
	if cfg.Offset != OffsetNumber(7) {
		t.Errorf("the offset would be %v", cfg.Offset)
	}
	if len(args) != 3 || args["n"] != large {
		t.Errorf("the caller's became %v", args)
	}
}

func TestConfigKeepsNothingOfItsQueueThatTheCallerCanChange(t *testing.T) {
	t.Parallel()
	own := topology.Queue{Name: "q", Exclusive: true, Arguments: amqp.Table{"k": "before"}}
	bindings := []topology.Binding{{Exchange: "x", Arguments: amqp.Table{"k": "before"}}}
	cfg, err := Config{Declare: &own, Bindings: bindings, Logger: slog.New(slog.DiscardHandler)}.withDefaults(nil)
	if err != nil {
		t.Fatal(err)
	}
	own.Name, own.Arguments["k"] = "other", "after"
	bindings[0].Exchange, bindings[0].Arguments["k"] = "other", "after"
	if q, b := cfg.Declare, cfg.Bindings[0]; q.Name != "q" || q.Arguments["k"] != "before" || b.Exchange != "x" || b.Arguments["k"] != "before" {
		t.Errorf("they became %+v and %+v", q, b)
	}
}
