package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mqkit/mqkit/integration/broker"
)

// dial opens a connection and a channel in confirm mode with the bare driver.
func dial(t *testing.T, url string) (*amqp.Connection, *amqp.Channel) {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatalf("open channel: %v", err)
	}
	if err := ch.Confirm(false); err != nil {
		t.Fatalf("confirm mode: %v", err)
	}
	return conn, ch
}

func declareQuorum(t *testing.T, ch *amqp.Channel, name string) {
	t.Helper()
	if _, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
		t.Fatalf("declare queue: %v", err)
	}
}

// publishConfirmed returns once the broker has confirmed the message.
func publishConfirmed(t *testing.T, ch *amqp.Channel, queue, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, Body: []byte(body),
	})
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	if acked, err := confirm.WaitContext(ctx); err != nil || !acked {
		t.Fatalf("confirm: acked %v, error %v", acked, err)
	}
}

// getOne waits for the one message that the queue must hold: a queue's leader may
// still be on its way up when the node takes connections.
func getOne(t *testing.T, ch *amqp.Channel, queue string) string {
	t.Helper()
	deliveries, err := ch.ConsumeWithContext(t.Context(), queue, "", true, false, false, false, nil)
	if err != nil {
		t.Fatalf("consume: %v", err)
	}
	select {
	case d, ok := <-deliveries:
		if !ok {
			t.Fatal("the delivery channel was closed")
		}
		return string(d.Body)
	case <-time.After(30 * time.Second):
		t.Fatal("no message within 30s")
	}
	return ""
}

func TestSharedNodeTakesConnectionsAndSaysItsVersion(t *testing.T) {
	node := sharedNode(t)
	if sharedNode(t) != node {
		t.Error("a second call gave another node")
	}
	conn, _ := dial(t, node.URL())
	if got, _ := conn.Properties["version"].(string); got == "" || got != node.Version() {
		t.Errorf("version %q, the broker says %q", node.Version(), got)
	}
	requireVersion(t, node, ">=3.10")
}

func TestCtlAnswersOnStdoutAloneAndReportsFailure(t *testing.T) {
	node := sharedNode(t)
	if !node.Controlled() {
		if _, err := node.Ctl(t.Context(), "version"); !errors.Is(err, broker.ErrNoControl) {
			t.Errorf("ctl on a broker of AMQP_URL: %v, want ErrNoControl", err)
		}
		t.Skip("the shared node is not under control")
	}
	out, err := node.Ctl(t.Context(), "version")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(out); got != node.Version() {
		t.Errorf("rabbitmqctl says %q, the connection said %q", got, node.Version())
	}

	_, ch := dial(t, node.URL())
	name := uniqueName(t) + ` with "quotes" and $HOME`
	declareQuorum(t, ch, name)
	out, err = node.Ctl(t.Context(), "list_queues", "--formatter", "json", "name", "type")
	if err != nil {
		t.Fatal(err)
	}
	var queues []struct{ Name, Type string }
	if err := json.Unmarshal([]byte(out), &queues); err != nil {
		t.Fatalf("not JSON: %v in %q", err, out)
	}
	found := false
	for _, q := range queues {
		found = found || q.Name == name && q.Type == "quorum"
	}
	if !found {
		t.Errorf("list_queues does not know %q: %s", name, out)
	}
	if _, err := node.Ctl(t.Context(), "delete_queue", name); err != nil {
		t.Error(err)
	}

	_, err = node.Ctl(t.Context(), "delete_queue", name)
	var exit *broker.ExecError
	if !errors.As(err, &exit) || exit.Code == 0 || exit.Stderr == "" {
		t.Errorf("deleting it twice: %v, want an ExecError with a code and a reason", err)
	}
}

func TestEvalSaysWhatRabbitmqctlWould(t *testing.T) {
	node := sharedNode(t)
	if !node.Controlled() {
		t.Skip("the shared node is not under control")
	}
	const expressions = `Name = lists:append("it's ", "$HOME"),
		{node(), length(Name)}.`
	want, err := node.Ctl(t.Context(), "eval", expressions)
	if err != nil {
		t.Fatal(err)
	}
	got, err := node.Eval(t.Context(), expressions)
	strip := strings.NewReplacer(" ", "", "\n", "")
	if err != nil || strip.Replace(got) != strip.Replace(want) || !strings.Contains(got, node.Name()) {
		t.Errorf("Eval: %q (%v), rabbitmqctl: %q", got, err, want)
	}
	var exit *broker.ExecError
	if out, err := node.Eval(t.Context(), "error(on_purpose)."); !errors.As(err, &exit) || !strings.Contains(err.Error(), "on_purpose") {
		t.Errorf("Eval of an error: %q, %v", out, err)
	}
}

func TestManagementListens(t *testing.T) {
	node := sharedNode(t)
	if node.ManagementURL() == "" {
		t.Skip("the address is not known for a broker of AMQP_URL")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, node.ManagementURL()+"/api/whoami", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("guest", "guest")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("whoami: %s", resp.Status)
	}
}

func TestNodeIsReachedAroundThePortProxy(t *testing.T) {
	node := sharedNode(t)
	if !node.Controlled() {
		t.Skip("the shared node is not under control")
	}
	ip, err := node.IP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := amqp.DialConfig("amqp://guest:guest@"+net.JoinHostPort(ip.String(), "5672")+"/", amqp.Config{
		Dial: amqp.DefaultDial(2 * time.Second),
	})
	if err != nil {
		t.Skipf("containers are not routed here: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestKilledNodeKeepsConfirmedMessagesAndItsPort(t *testing.T) {
	t.Parallel()
	node := ownNode(t)
	conn, ch := dial(t, node.URL())
	queue := uniqueName(t)
	declareQuorum(t, ch, queue)
	if err := node.SyncQueues(t.Context()); err != nil {
		t.Fatal(err)
	}
	publishConfirmed(t, ch, queue, "kept")
	lost := conn.NotifyClose(make(chan *amqp.Error, 1))

	url := node.URL()
	begin := time.Now()
	if err := node.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("killed after %s", time.Since(begin))
	select {
	case <-lost:
	case <-time.After(10 * time.Second):
		t.Fatal("the connection outlived the node")
	}
	if running, err := node.Running(t.Context()); err != nil || running {
		t.Fatalf("after Kill: running %v, error %v", running, err)
	}
	if c, err := amqp.Dial(url); err == nil {
		c.Close()
		t.Fatal("a killed node took a connection")
	}

	begin = time.Now()
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready again after %s", time.Since(begin))
	_, ch = dial(t, url)
	if got := getOne(t, ch, queue); got != "kept" {
		t.Errorf("got %q, want %q", got, "kept")
	}
}

func TestStoppedNodeComesBackAndPausedNodeFallsSilent(t *testing.T) {
	t.Parallel()
	node := ownNode(t, broker.Options{Conf: []string{"heartbeat = 7"}})
	conn, _ := dial(t, node.URL())
	if got := conn.Config.Heartbeat; got != 7*time.Second {
		t.Errorf("heartbeat %s, Options.Conf says 7s", got)
	}

	if err := node.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := node.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused node: %v, want deadline exceeded", err)
	}
	if err := node.Unpause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}

	begin := time.Now()
	if err := node.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 50*time.Second {
		t.Errorf("it took %s to stop: nothing in it has heard the signal", took)
	}
	if err := node.WaitReady(t.Context()); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("a stopped node: %v, want that the container has ended", err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	logs, err := node.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if starts := strings.Count(logs, "Starting RabbitMQ "); starts != 2 {
		t.Errorf("the log tells of %d starts, want 2", starts)
	}
}

func TestTLSListenerChecksBothSides(t *testing.T) {
	t.Parallel()
	certs, err := broker.IssueCertificates()
	if err != nil {
		t.Fatal(err)
	}
	opt := broker.Options{TLS: certs.TLS()}
	opt.TLS.RequireClientCert = true
	node := ownNode(t, opt)

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certs.CA)
	if _, err := amqp.DialTLS(node.TLSURL(), &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}); err == nil {
		t.Error("the broker took a client without a certificate")
	}
	own, err := tls.X509KeyPair(certs.ClientCert, certs.ClientKey)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := amqp.DialTLS(node.TLSURL(), &tls.Config{
		RootCAs: roots, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestClusterElectsAnotherLeaderWhenTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	c := cluster(t)
	t.Logf("formed after %s", time.Since(begin))
	_, ch := dial(t, c.URLs()[0])
	queue := uniqueName(t)
	declareQuorum(t, ch, queue)
	publishConfirmed(t, ch, queue, "kept")

	leader, err := c.Leader(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	followers, err := c.Followers(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	if len(followers) != broker.ClusterSize-1 {
		t.Fatalf("%d followers, want %d", len(followers), broker.ClusterSize-1)
	}
	if _, err := c.Leader(t.Context(), uniqueName(t)); err == nil || !strings.Contains(err.Error(), "no such queue") {
		t.Errorf("the leader of a queue that is not there: %v", err)
	}
	if err := leader.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	next, err := c.Leader(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s leads after %s, found after %s", next.Name(), leader.Name(), time.Since(begin))
	if next == leader {
		t.Fatal("the killed node still leads")
	}
	_, ch = dial(t, next.URL())
	if got := getOne(t, ch, queue); got != "kept" {
		t.Errorf("got %q, want %q", got, "kept")
	}

	begin = time.Now()
	if err := leader.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFormed(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("formed again after %s", time.Since(begin))
}

func TestIsolatedLeaderLosesItsQueueAndKeepsItsClients(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	_, ch := dial(t, c.URLs()[0])
	queue := uniqueName(t)
	declareQuorum(t, ch, queue)
	leader, err := c.Leader(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Isolate(t.Context(), leader); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for next := leader; next == leader; {
		if next, err = c.Leader(t.Context(), queue); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) > 2*time.Minute {
			t.Fatal("the isolated node still leads")
		}
	}
	t.Logf("another leader found after %s", time.Since(begin))
	dial(t, leader.URL())

	begin = time.Now()
	if err := c.Rejoin(t.Context(), leader); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFormed(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("formed again after %s", time.Since(begin))
}

func TestVersionConstraints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version, constraint string
		want                bool
	}{
		{"4.3.6", ">=4.3", true},
		{"4.3.6", "<4.3", false},
		{"4.3.6", "4.3", true},
		{"4.3.6", ">4.3", false},
		{"4.3.6", ">=4.3.7", false},
		{"4.0.5", ">=4.0 <4.3", true},
		{"3.10.8", ">=3.9", true},
		{"3.10.8", "<4", true},
		{"4.4.0-rc.1", ">=4.4", true},
	} {
		got, err := meets(c.version, c.constraint)
		if err != nil || got != c.want {
			t.Errorf("%s meets %s: %v, %v; want %v", c.version, c.constraint, got, err, c.want)
		}
	}
	if _, err := meets("4.3.6", "~4.3"); err == nil {
		t.Error("an unknown operator was taken")
	}
}
