package amqpserver_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqkit/mqkit/internal/amqpserver"
	"github.com/mqkit/mqkit/internal/wire"
)

func TestAnotherProtocolIsAnsweredWithOneThatWouldDo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, header, want string }{
		{"0-9-2", "AMQP\x00\x00\x09\x02", wire.ProtocolHeader},
		{"1.0", "AMQP\x03\x01\x00\x00", wire.ProtocolHeader},
		{"1.0 without SASL", "AMQP\x00\x01\x00\x00", "AMQP\x03\x01\x00\x00"},
		{"0-8", "AMQP\x01\x01\x08\x00", "AMQP\x03\x01\x00\x00"},
		{"0-10", "AMQP\x01\x01\x00\x0a", "AMQP\x03\x01\x00\x00"},
		{"HTTP", "GET / HT", "AMQP\x03\x01\x00\x00"},
		{"zeros", "\x00\x00\x00\x00\x00\x00\x00\x00", "AMQP\x03\x01\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := accept(t, amqpserver.Config{})
			c.conn.Start([8]byte([]byte(tt.header)))
			if got := string(c.bytes); got != tt.want {
				t.Errorf("answered %q, want %q", got, tt.want)
			}
			if err := c.wantEnd(); !errors.Is(err, amqpserver.ErrProtocolHeader) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestStartSaysWhatTheServerCan(t *testing.T) {
	t.Parallel()
	c := accept(t, amqpserver.Config{Version: "4.2.1", Properties: wire.Table{
		{Key: "node", Value: "n1"}, {Key: "platform", Value: nil},
	}})
	c.conn.Start(header)
	r := wire.NewReader(strings.NewReader(string(c.bytes)))
	f, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.ParseMethod(f.Payload)
	if err != nil {
		t.Fatal(err)
	}
	start := m.(*wire.ConnectionStart)
	if start.VersionMajor != 0 || start.VersionMinor != 9 || start.Mechanisms != "PLAIN AMQPLAIN ANONYMOUS" || start.Locales != "en_US" {
		t.Errorf("start is %+v", start)
	}
	var keys []string
	for _, f := range start.ServerProperties {
		keys = append(keys, f.Key)
	}
	if got, want := strings.Join(keys, " "), "capabilities cluster_name copyright information node product version"; got != want {
		t.Errorf("server properties %s, want %s", got, want)
	}
	if v, _ := start.ServerProperties.Get("version"); v != "4.2.1" {
		t.Errorf("version %v", v)
	}
	offered, _ := start.ServerProperties.Get("capabilities")
	if table, _ := offered.(wire.Table); len(table) != 9 {
		t.Errorf("capabilities %v", offered)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	refusal := errors.New("not you")
	amqplain := wire.AppendTable(nil, wire.Table{{Key: "LOGIN", Value: "u"}, {Key: "PASSWORD", Value: "p"}})[4:]
	for _, tt := range []struct {
		name, mechanism, response string
		properties                wire.Table
		mechanisms                []string
		auth                      func(amqpserver.Login) (string, error)
		closed                    string // text of the close; "": none is sent
		tuned                     bool
	}{
		{name: "PLAIN", mechanism: "PLAIN", response: "\x00u\x00p", tuned: true},
		{name: "AMQPLAIN", mechanism: "AMQPLAIN", response: string(amqplain), tuned: true},
		{
			name: "EXTERNAL", mechanism: "EXTERNAL", response: "\x00*\x00*", tuned: true, mechanisms: []string{"EXTERNAL"},
			auth: func(amqpserver.Login) (string, error) { return "cert", nil },
		},
		{
			name: "EXTERNAL where it is not offered", mechanism: "EXTERNAL", properties: capabilities,
			auth: func(amqpserver.Login) (string, error) { return "cert", nil },
		},
		{
			name: "ANONYMOUS", mechanism: "ANONYMOUS", response: "who asks?", tuned: true,
			auth: func(l amqpserver.Login) (string, error) {
				if l.User != "guest" || l.Password != "guest" {
					return "", refusal
				}
				return l.User, nil
			},
		},
		{
			name: "ANONYMOUS where there is no guest", mechanism: "ANONYMOUS", properties: capabilities,
			closed: "ACCESS_REFUSED - Login was refused using authentication mechanism ANONYMOUS. For details see the broker logfile.",
		},
		{
			name: "refused, and told", mechanism: "PLAIN", response: "\x00u\x00q", properties: capabilities,
			closed: "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
		},
		{name: "refused in silence", mechanism: "PLAIN", response: "\x00u\x00q"},
		{name: "no such mechanism", mechanism: "CRAM", response: "", properties: capabilities},
		{name: "PLAIN that is not", mechanism: "PLAIN", response: "u p", properties: capabilities},
		{name: "AMQPLAIN that is not", mechanism: "AMQPLAIN", response: "\x05LO", properties: capabilities},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			auth := tt.auth
			if auth == nil {
				auth = func(l amqpserver.Login) (string, error) {
					if l.User != "u" || l.Password != "p" {
						return "", refusal
					}
					return l.User, nil
				}
			}
			c := accept(t, amqpserver.Config{Authenticate: auth, Mechanisms: tt.mechanisms})
			c.conn.Start(header)
			c.words()
			c.send(0, startOk(tt.mechanism, tt.response, tt.properties))
			switch {
			case tt.tuned:
				c.expect(0, &wire.ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60})
			case tt.closed != "":
				c.expect(0, closed(403, tt.closed, nil))
				c.send(0, &wire.ConnectionCloseOk{})
				if err := c.wantEnd(); !errors.Is(err, refusal) {
					t.Errorf("ended with %v", err)
				}
			default:
				c.expectWords()
				var refused *amqpserver.RefusedError
				if err := c.wantEnd(); !errors.As(err, &refused) || refused.State != "starting" {
					t.Errorf("ended with %v", err)
				}
			}
		})
	}
}

func TestARefusalInSilenceTakesItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := accept(t, amqpserver.Config{RefusalDelay: 3 * time.Second})
		c.conn.Start(header)
		c.words()
		c.send(0, startOk("PLAIN", "\x00guest\x00no", nil))
		c.send(0, startOk("PLAIN", "\x00guest\x00guest", nil))
		if ended, _ := c.end(); ended {
			t.Fatal("ended at once")
		}
		time.Sleep(3*time.Second + 1) // in the bubble
		c.wantEnd()
		c.expectWords()
	})
}

func TestTuneOkKeepsToWhatWasOffered(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ok   wire.ConnectionTuneOk
		want string // "": taken
	}{
		{ok: wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192, Heartbeat: 1}},
		{wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 4096}, "negotiated frame_max = 4096 is lower than the minimum allowed value (8192)"},
		{wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131073}, "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"},
		{wire.ConnectionTuneOk{ChannelMax: 2047}, "negotiated frame_max = 0 is higher than the maximum allowed value (131072)"},
		{wire.ConnectionTuneOk{ChannelMax: 2048, FrameMax: 131072}, "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"},
		{wire.ConnectionTuneOk{FrameMax: 131072}, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"},
	} {
		c := accept(t, amqpserver.Config{})
		c.login()
		if got := c.conn.FrameMax(); got != 8192 {
			t.Errorf("frame_max %d before it was negotiated", got)
		}
		c.send(0, &tt.ok)
		c.expectWords() // RabbitMQ does not say what was wrong either
		if tt.want == "" {
			if ended, err := c.end(); ended || c.conn.FrameMax() != tt.ok.FrameMax {
				t.Errorf("%+v: ended %v with %v, frame_max %d", tt.ok, ended, err, c.conn.FrameMax())
			}
			continue
		}
		if err := c.wantEnd(); !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: ended with %v, want %s", tt.ok, err, tt.want)
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	cfg := amqpserver.Config{Authorize: func(user, vhost string) error { return errors.New("no") }}
	for _, tt := range []struct {
		name, vhost, want string
		cfg               amqpserver.Config
	}{
		{name: "missing vhost", vhost: "nosuchvhost", want: "NOT_ALLOWED - vhost nosuchvhost not found"},
		{name: "not allowed", vhost: "/", cfg: cfg, want: "NOT_ALLOWED - access to vhost '/' refused for user 'guest'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := accept(t, tt.cfg)
			c.login()
			c.send(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192}, &wire.ConnectionOpen{VirtualHost: tt.vhost})
			c.expect(0, closed(530, tt.want, &wire.ConnectionOpen{}))
			c.send(0, &wire.ConnectionCloseOk{})
			c.wantEnd()
		})
	}
}

func TestAClientThatJumpsAheadIsRefused(t *testing.T) {
	t.Parallel()
	for _, m := range []wire.Method{
		&wire.ConnectionOpen{VirtualHost: "/"}, &wire.ConnectionTuneOk{}, &wire.ConnectionClose{}, &wire.BasicQos{},
		&wire.ConnectionSecureOk{}, &wire.ConnectionStart{},
	} {
		c := accept(t, amqpserver.Config{})
		c.conn.Start(header)
		c.words()
		c.send(0, m)
		c.expectWords()
		if err := c.wantEnd(); !strings.Contains(err.Error(), "unexpected method in connection state starting") {
			t.Errorf("%s: ended with %v", m.ID(), err)
		}
	}
	// Once it is tuned, it is told.
	c := accept(t, amqpserver.Config{})
	c.login()
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192}, &wire.ConnectionTuneOk{})
	c.expect(0, closed(504, "CHANNEL_ERROR - unexpected method in connection state opening", &wire.ConnectionTuneOk{}))
	c = accept(t, amqpserver.Config{})
	c.login()
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192})
	c.send(1, &wire.ChannelOpen{})
	c.expect(0, closed(505, "UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>", nil))
}

func TestAHandshakeHasItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent, slow := accept(t, amqpserver.Config{}), accept(t, amqpserver.Config{})
		quick := open(t, amqpserver.Config{}, 1)
		slow.login()
		time.Sleep(9 * time.Second) // in the bubble
		for _, c := range []*client{silent, slow} {
			if ended, err := c.end(); ended {
				t.Errorf("ended early with %v", err)
			}
		}
		time.Sleep(2 * time.Second) // in the bubble
		for _, c := range []*client{silent, slow} {
			if err := c.wantEnd(); !errors.Is(err, amqpserver.ErrHandshakeTimeout) {
				t.Errorf("ended with %v", err)
			}
		}
		if ended, err := quick.end(); ended {
			t.Errorf("an open connection ended with %v", err)
		}
	})
}

func TestUpdateSecret(t *testing.T) {
	t.Parallel()
	var secrets []string
	c := open(t, amqpserver.Config{UpdateSecret: func(user, secret, reason string) error {
		secrets = append(secrets, user+" "+secret+" "+reason)
		if secret == "bad" {
			return errors.New("bad")
		}
		return nil
	}}, 0)
	c.send(0, &wire.ConnectionUpdateSecret{NewSecret: "token", Reason: "expires"})
	c.expect(0, &wire.ConnectionUpdateSecretOk{})
	c.send(0, &wire.ConnectionUpdateSecret{NewSecret: "bad", Reason: "expires"})
	c.expect(0, closed(530, "NOT_ALLOWED - New secret was refused by one of the backends", &wire.ConnectionUpdateSecret{}))
	if got := strings.Join(secrets, ","); got != "guest token expires,guest bad expires" {
		t.Errorf("the hook got %s", got)
	}
}

func TestANewSecretMayTakeTheVhostAway(t *testing.T) {
	t.Parallel()
	allowed := true
	c := open(t, amqpserver.Config{Authorize: func(string, string) error {
		if !allowed {
			return errors.New("no")
		}
		return nil
	}}, 0)
	allowed = false
	c.send(0, &wire.ConnectionUpdateSecret{NewSecret: "token", Reason: "expires"})
	c.expect(0, closed(530, "NOT_ALLOWED - access to vhost '/' refused for user 'guest'", &wire.ConnectionUpdateSecret{}))
}
