package conformance

import "context"

// Hand is what the operator of a broker can do.
type Hand interface {
	// Block raises an alarm, for want of memory, and Unblock takes it back. They
	// return when it is so.
	Block(context.Context) error
	Unblock(context.Context) error

	// AddVhost and DeleteVhost do that.
	AddVhost(ctx context.Context, name string) error
	DeleteVhost(ctx context.Context, name string) error

	// CloseConnections closes all connections and gives them the reason.
	CloseConnections(ctx context.Context, reason string) error
}

// Rabbitmqctl is the Hand of a RabbitMQ whose rabbitmqctl is run by the function.
func Rabbitmqctl(run func(ctx context.Context, args ...string) error) Hand { return ctl{run} }

type ctl struct {
	run func(ctx context.Context, args ...string) error
}

func (c ctl) Block(ctx context.Context) error {
	return c.run(ctx, "set_vm_memory_high_watermark", "0.00000001")
}

func (c ctl) Unblock(ctx context.Context) error {
	return c.run(ctx, "set_vm_memory_high_watermark", "0.6")
}

func (c ctl) AddVhost(ctx context.Context, name string) error {
	if err := c.run(ctx, "add_vhost", name); err != nil {
		return err
	}
	return c.run(ctx, "set_permissions", "-p", name, "guest", ".*", ".*", ".*")
}

func (c ctl) DeleteVhost(ctx context.Context, name string) error {
	return c.run(ctx, "delete_vhost", name)
}

func (c ctl) CloseConnections(ctx context.Context, reason string) error {
	return c.run(ctx, "close_all_connections", reason)
}

// by has the operator do something; if that fails, the transcript says so.
func (s *Script) by(what string, do func(context.Context) error) {
	s.Say("operator: %s", what)
	if err := do(s.ctx); err != nil {
		s.Say("operator: %v", err)
	}
}

// vhost adds a vhost for the time of the case.
func (s *Script) vhost(short string) (name string, remove func()) {
	name = s.Name(short)
	s.by("add vhost "+name, func(ctx context.Context) error { return s.hand.AddVhost(ctx, name) })
	return name, func() {
		s.by("delete vhost "+name, func(ctx context.Context) error { return s.hand.DeleteVhost(ctx, name) })
	}
}
