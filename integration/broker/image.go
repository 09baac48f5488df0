package broker

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// defaultSeries is the series of the image that build.sh builds by default.
const defaultSeries = "4.3"

// pullTimeout bounds a pull, which is some 100 MB. A registry that cannot be
// reached fails much earlier.
const pullTimeout = 2 * time.Minute

// image returns the image to run, present on the engine. See the package
// documentation for the order.
func (e *engine) image(ctx context.Context, chosen string) (string, error) {
	if chosen = cmp.Or(chosen, os.Getenv("RABBITMQ_IMAGE")); chosen != "" {
		return chosen, e.ensure(ctx, chosen)
	}
	series := os.Getenv("SERIES")
	official := "rabbitmq:" + cmp.Or(series, "4") + "-management"
	built := "mqkit/rabbitmq:" + cmp.Or(series, defaultSeries)
	for _, name := range []string{official, built} {
		present, err := e.present(ctx, name)
		if err != nil {
			return "", err
		}
		if present {
			return name, nil
		}
	}
	return official, e.ensure(ctx, official)
}

func (e *engine) present(ctx context.Context, name string) (bool, error) {
	_, err := e.client.ImageInspect(ctx, name)
	switch {
	case err == nil:
		return true, nil
	case errdefs.IsNotFound(err):
		return false, nil
	default:
		return false, fmt.Errorf("look for image %s: %w", name, err)
	}
}

// ensure pulls the image unless it is present. Testcontainers would pull too, but
// retries for fifteen minutes what will not come.
func (e *engine) ensure(ctx context.Context, name string) error {
	if present, err := e.present(ctx, name); err != nil || present {
		return err
	}
	pullCtx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	err := func() error {
		pull, err := e.client.ImagePull(pullCtx, name, client.ImagePullOptions{})
		if err != nil {
			return err
		}
		return pull.Wait(pullCtx)
	}()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("pull image %s: %w", name, context.Cause(ctx))
	}
	return fmt.Errorf("%w: image %s is not present and cannot be pulled; run `make image`: %w", ErrUnavailable, name, err)
}
