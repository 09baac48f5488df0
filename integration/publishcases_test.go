package integration_test

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	"github.com/mqkit/mqkit/integration/broker"
	"github.com/mqkit/mqkit/internal/publishcases"
	"github.com/mqkit/mqkit/mqtest"
)

// TestPublishCasesThroughTheProxy: the verdicts that mqtest is asked for as well. The
// node is this test's own: it is in an alarm, denies, and restarts.
func TestPublishCasesThroughTheProxy(t *testing.T) {
	t.Parallel()
	const largest = 64 << 10
	node := ownNode(t, broker.Options{Conf: []string{fmt.Sprint("max_message_size = ", largest)}})
	permit := func(ctx context.Context, write string) error {
		return node.Permit(ctx, "/", "guest", ".*", write, ".*")
	}
	publishcases.Run(t, func(t *testing.T) publishcases.Stand {
		return publishcases.Stand{
			Stage:   mqtest.NewProxy(t, node.URL()).Stage,
			Direct:  node.URL(),
			Largest: largest,
			Deny: func(t *testing.T, exchange string) {
				t.Cleanup(func() { must(t, permit(context.Background(), ".*")) })
				must(t, permit(t.Context(), "^(?!"+regexp.QuoteMeta(exchange)+"$).*"))
			},
			Alarm: func(t *testing.T, on bool) {
				if !on {
					must(t, node.Unblock(t.Context()))
					return
				}
				t.Cleanup(func() { must(t, node.Unblock(context.Background())) }) // a case that fails must not leave it on
				must(t, node.Block(t.Context()))
			},
			Restart: func(t *testing.T) {
				must(t, node.Stop(t.Context()))
				must(t, node.Start(t.Context()))
				must(t, node.WaitReady(t.Context()))
			},
		}
	})
}
