//go:build unix

package producer

import (
	"syscall"
	"testing"

	"github.com/mqkit/mqkit/internal/sendable"
)

// TestBodiesEndWhereRabbitMQsDo: more costs the connection. The memory is asked for and
// never touched.
func TestBodiesEndWhereRabbitMQsDo(t *testing.T) {
	t.Parallel()
	body, err := syscall.Mmap(-1, 0, sendable.MaxBody+1, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(body); err != nil {
			t.Error(err)
		}
	})
	if _, _, err := check(&Message{Body: body[:sendable.MaxBody]}); err != nil {
		t.Errorf("512 MiB: %v", err)
	}
	if _, _, err := check(&Message{Body: body}); err == nil || refusal(t, err) != "Body" {
		t.Errorf("a byte more: %v", err)
	}
}
