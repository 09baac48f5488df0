package mqtest_test

import (
	"context"
	"testing"

	"github.com/mqkit/mqkit/internal/conformance"
	"github.com/mqkit/mqkit/mqtest"
)

// known are the cases that differ from RabbitMQ, each with its reason; README.md
// lists them. There is none left.
var known = map[string]string{}

// knownByRules42 are those that differ from RabbitMQ 4.0, whose recording is all that
// Rules42 can be held to.
var knownByRules42 = map[string]string{
	"handshake/frame-max-too-small":    "4.1 raised the least frame-max to 8192, and Rules42 is 4.2 there",
	"frame/body-longer-than-announced": "4.0 says nothing any more, and leaves the socket open",
}

func TestConformance(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	conformance.Run(t, b.URL(), "4.3", known)
}

func TestConformanceInMemory(t *testing.T) {
	t.Parallel()
	conformance.RunInBubbles(t, "4.3", inMemory(mqtest.Config{}), known)
}

func TestConformanceByTheOldRules(t *testing.T) {
	t.Parallel()
	conformance.RunInBubbles(t, "4.0", inMemory(mqtest.Config{Rules: mqtest.Rules42}), knownByRules42)
}

func inMemory(cfg mqtest.Config) func(*testing.T) (string, conformance.Dial) {
	return func(t *testing.T) (string, conformance.Dial) {
		b := mqtest.NewInMemory(t, cfg)
		return b.URL(), b.DialContext
	}
}

func TestConformanceWithAHandOnTheBroker(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t)
	conformance.RunWithHand(t, b.URL(), "4.3", hand{b}, known)
}

func TestConformanceByTheOldRulesWithAHandOnTheBroker(t *testing.T) {
	t.Parallel()
	b := mqtest.New(t, mqtest.Config{Rules: mqtest.Rules42})
	conformance.RunWithHand(t, b.URL(), "4.0", hand{b}, knownByRules42)
}

// hand does what rabbitmqctl does to a RabbitMQ.
type hand struct{ b *mqtest.Broker }

func (h hand) Block(context.Context) error {
	h.b.Block("low on memory")
	return nil
}

func (h hand) Unblock(context.Context) error {
	h.b.Unblock()
	return nil
}

func (h hand) AddVhost(_ context.Context, name string) error {
	h.b.AddVhost(name, "")
	return nil
}

func (h hand) DeleteVhost(_ context.Context, name string) error {
	h.b.DeleteVhost(name)
	return nil
}

func (h hand) CloseConnections(_ context.Context, reason string) error {
	for _, c := range h.b.Connections() {
		c.Do(mqtest.CloseConnection(320, "CONNECTION_FORCED - "+reason))
	}
	return nil
}
