package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/mqkit/mqkit/internal/cli"
	"github.com/mqkit/mqkit/mqtest"
)

// serve runs the broker until ctx or a signal ends it. Its errors are usage errors.
func serve(ctx context.Context, o *options, stdout, stderr io.Writer) (int, error) {
	name, password, err := o.login()
	if err != nil {
		return 0, err
	}
	if err := o.checkVhost(); err != nil {
		return 0, err
	}
	addr, err := o.address()
	if err != nil {
		return 0, err
	}
	declared, err := o.load()
	if err != nil {
		return 0, err
	}

	talk := cli.NewTalk(stderr, "mqbroker", o.quiet, false)
	interrupts := cli.CatchInterrupts(ctx)
	defer interrupts.Stop()
	b, err := mqtest.Start(mqtest.Config{
		Listen: addr.String(), Rules: mqtest.Rules(o.rules),
		Vhosts: o.vhosts(), Users: map[string]string{name: password},
	})
	if err != nil {
		talk.Fail("%s", cannotListen(addr, err))
		return cli.ExitFailure, nil
	}
	defer b.Close()
	if err := declare(interrupts.Soft, b, o.vhost, name, password, declared); err != nil {
		talk.Fail("--topology: %v", err)
		return max(cli.CodeOf(err), cli.ExitFailure), nil
	}
	url, err := brokerURL(b.Addr(), name, password, o.vhost)
	if err == nil {
		_, err = fmt.Fprintln(stdout, url)
	}
	if err != nil {
		talk.Fail("cannot print the URL: %v", err)
		return cli.ExitFailure, nil
	}
	talk.Note("serving with the rules of RabbitMQ %s; everything is in memory and gone when it ends: not for production", o.rules)
	if !addr.IP.IsLoopback() {
		talk.Note("listening on %s without TLS, for every machine that reaches it (--insecure-listen)", b.Addr())
	}

	<-interrupts.Soft.Done()
	farewell(interrupts.Hard, b)
	talk.Note("%v: %s", context.Cause(interrupts.Soft), o.lost(b))
	return cli.ExitOK, nil
}

// shutdown is what RabbitMQ tells its clients when it is stopped.
var shutdown = mqtest.CloseConnection(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")

// farewellTime is how long clients may take to answer that: those that listen need
// a millisecond.
const farewellTime = time.Second

// farewell closes the port and then the connections in order.
func farewell(ctx context.Context, b *mqtest.Broker) {
	b.RefuseConnections()
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	open := b.Connections()
	for _, c := range open {
		c.Do(shutdown)
	}
	for _, c := range open {
		select {
		case <-c.Done():
		case <-ctx.Done():
			return
		}
	}
}

// vhosts are those that are served.
func (o *options) vhosts() []string {
	if o.vhost == defaultVhost {
		return []string{defaultVhost}
	}
	return []string{defaultVhost, o.vhost}
}

// lost says what ends with the broker.
func (o *options) lost(b *mqtest.Broker) string {
	var messages, queues uint64
	for _, vhost := range o.vhosts() {
		for _, q := range b.Queues(vhost) {
			queues++
			messages += uint64(q.Ready + q.Unacked)
		}
	}
	if queues == 0 {
		return "it had no queue"
	}
	return fmt.Sprintf("gone with it: %s in %s", cli.Count(messages, "message"), cli.Count(queues, "queue"))
}
