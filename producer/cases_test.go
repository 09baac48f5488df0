package producer_test

import (
	"testing"

	"github.com/mqkit/mqkit/internal/publishcases"
	"github.com/mqkit/mqkit/mqtest"
)

// TestPublishCases: what RabbitMQ is held to as well, through the same proxy.
func TestPublishCases(t *testing.T) {
	t.Parallel()
	publishcases.Run(t, func(t *testing.T) publishcases.Stand {
		t.Parallel()
		const largest = 64 << 10
		b := mqtest.New(t, mqtest.Config{MaxMessageSize: largest})
		return publishcases.Stand{
			Stage:   mqtest.NewProxy(t, b.URL()).Stage,
			Direct:  b.URL(),
			Largest: largest,
			Deny: func(_ *testing.T, exchange string) { // it knows no permissions
				b.Inject(mqtest.Fault{Point: mqtest.Received, Method: "basic.publish", Exchange: exchange, Do: mqtest.CloseChannel(403, "")})
			},
			Alarm: func(_ *testing.T, on bool) {
				if on {
					b.Block("")
				} else {
					b.Unblock()
				}
			},
			Restart: func(t *testing.T) {
				if err := b.Restart(); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
