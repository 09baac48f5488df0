package reconnect

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestParseURLReadsWhatIsThereAndDefaultsTheRest(t *testing.T) {
	t.Parallel()
	sec := func(n int) *time.Duration { d := time.Duration(n) * time.Second; return &d }
	guest := Credentials{Username: "guest", Password: "guest"}
	tests := []struct {
		url  string
		want address
	}{
		{"amqp://", address{host: "localhost", port: "5672", vhost: "/", creds: guest}},
		{"amqp://rabbit", address{host: "rabbit", port: "5672", vhost: "/", creds: guest}},
		{"amqp://rabbit/", address{host: "rabbit", port: "5672", vhost: "/", creds: guest}},
		{"amqps://rabbit/", address{host: "rabbit", port: "5671", vhost: "/", creds: guest, secure: true}},
		{"amqp://[::1]:7000/v", address{host: "::1", port: "7000", vhost: "v", creds: guest}},
		{"amqp://u:p@h:1/a%2Fb", address{host: "h", port: "1", vhost: "a/b", creds: Credentials{Username: "u", Password: "p"}}},
		{"amqp://u:p@h/%2f", address{host: "h", port: "5672", vhost: "/", creds: Credentials{Username: "u", Password: "p"}}},
		{"amqp://u:p@h/a%40b", address{host: "h", port: "5672", vhost: "a@b", creds: Credentials{Username: "u", Password: "p"}}},
		{"amqp://u%40x:%2F%3F%23%40%3A%25@h", address{host: "h", port: "5672", vhost: "/", creds: Credentials{Username: "u@x", Password: "/?#@:%"}}},
		{"amqp://u:p@h?heartbeat=3", address{host: "h", port: "5672", vhost: "/", creds: Credentials{Username: "u", Password: "p"}, heartbeat: sec(3)}},
		{"amqp://u:p@h?heartbeat=0", address{host: "h", port: "5672", vhost: "/", creds: Credentials{Username: "u", Password: "p"}, heartbeat: sec(0)}},
		{"amqp://u:p@h?connection_timeout=1500", address{host: "h", port: "5672", vhost: "/", creds: Credentials{Username: "u", Password: "p"}, dialTimeout: 1500 * time.Millisecond}},
		{"amqp://u@h?auth_mechanism=EXTERNAL", address{host: "h", port: "5672", vhost: "/", creds: Credentials{Username: "u", Password: "guest"}, external: true}},
	}
	for _, tt := range tests {
		a, err := parseURL(tt.url)
		if err != nil {
			t.Errorf("parseURL(%q): %v", tt.url, err)
			continue
		}
		show := func(a address) string {
			s := fmt.Sprintf("%q %q %q secure=%v %q/%q external=%v dial=%v", a.host, a.port, a.vhost, a.secure, a.creds.Username, a.creds.Password, a.external, a.dialTimeout)
			if a.heartbeat != nil {
				s += fmt.Sprintf(" heartbeat=%v", *a.heartbeat)
			}
			return s
		}
		if got, want := show(*a), show(tt.want); got != want {
			t.Errorf("parseURL(%q)\n got %s\nwant %s", tt.url, got, want)
		}
	}
}

func TestParseURLSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := []struct{ url, want string }{
		{"", "scheme is neither amqp nor amqps"},
		{"http://u:p@h/", "scheme is neither amqp nor amqps"},
		{"rabbit:5672", "scheme is neither amqp nor amqps"},
		{"amqp:rabbit", "cannot be parsed"},
		{"amqp://u:p@a:5672,b:5672/", "a url of its own"},
		{"amqp://user:pass-word:rabbit:5672/", "has a ':' in its host: an '@' ends user and password"},
		{"amqp://user:pass-word:5672", "has a ':' in its host"},
		{"amqp://::1:5672/", "an IPv6 address stands in brackets"},
		{"amqp://u:p@a,b/", "a url of its own"},
		{"amqp://u:p@h/#v", "%23"},
		{"amqp://u:p@h/a/b", "%2F"},
		{"amqp://u:p@h/a@b", "%40"},
		{"amqp://u:p@h:0/", "1 to 65535"},
		{"amqp://u:p@h:65536/", "1 to 65535"},
		{"amqp://u:p@h:http/", "cannot be parsed"},
		{"amqp://u:p@h?heartbeat=soon", "heartbeat"},
		{"amqp://u:p@h?heartbeat=-1", "heartbeat"},
		{"amqp://u:p@h?connection_timeout=5s", "connection_timeout"},
		{"amqp://u:p@h?auth_mechanism=kerberos", "neither plain nor external"},
		{"amqps://u:p@h?cacertfile=/no/such/file", "/no/such/file"},
		{"amqps://u:p@h?certfile=/no/such/file", "both its certificate file and its key file"},
	}
	for _, tt := range tests {
		if _, err := parseURL(tt.url); err == nil {
			t.Errorf("parseURL(%q): no error, want one with %q", tt.url, tt.want)
		} else if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("parseURL(%q): %q, want %q", tt.url, err, tt.want)
		}
	}
}

// strayPasswords are URLs in which a password was not percent-encoded, or is
// where none belongs. Each piece that net/url may cut out of it is a word of its
// own.
var strayPasswords = []string{
	"amqp://user:hunter2 sesame@host/",
	"amqp://user:hunter2%zzsesame@host/",
	"amqp://user:hunter2/sesame@host/",
	"amqp://user:hunter2?sesame@host/",
	"amqp://user:hunter2#sesame@host/",
	"amqp://user:hunter2\\sesame@host/",
	"amqp://user:hunter2[sesame@host/",
	"amqp://user:hunter2\tsesame@host/",
	"amqp://user:hunter2\x7fsesame@host/",
	"amqp://user:4711/sesame@host", // the start looks like a port
	"amqp://user:4711/sesame@host/",
	"amqp://user:4711?sesame@host",
	"amqp://user:4711#sesame@host",
	"amqp://user:a@4711/sesame@host", // the start looks like a host
	"amqp://user:a@4711?sesame@host",
	"amqp://user:a@hunter2:4711/sesame@host",
	"amqp://user:hunter2@host:4711sesame/",
	"amqp:user:hunter2sesame@host/",
	"amqp:/user:hunter2sesame@host",
	"amqp:///user:hunter2sesame@host",
	"user:hunter2sesame@host",
	"hunter2sesame:4711@host",
	"//user:hunter2sesame@host",
	"amqp//user:hunter2sesame@host",
	"hunter2sesame",
	"http://user:hunter2sesame@host",
	"amqp://user:hunter2sesame@host/a/b",
	"amqp://user:hunter2sesame@host:0/",
	"amqp://user:hunter2sesame@host?heartbeat=x",
	"amqp://user:hunter2sesame@host?auth_mechanism=x",
	"amqp://user:hunter2sesame@[host/",
}

func wantNoSecret(t *testing.T, what, text string) {
	t.Helper()
	for _, secret := range []string{"hunter2", "sesame", "4711"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows %q: %s", what, secret, text)
		}
	}
}

func TestNoPartOfAPasswordIsInTheErrorForAMalformedURL(t *testing.T) {
	t.Parallel()
	for _, u := range strayPasswords {
		what := fmt.Sprintf("the error for %q", u)
		if _, err := parseURL(u); err == nil {
			t.Errorf("%q was taken", u)
		} else {
			wantNoSecret(t, what, err.Error())
		}
		// Another vhost beside it, which the error about both would show.
		cfg := Config{URLs: []string{"amqp://user:pw@host/v", u}}
		if _, _, err := cfg.withDefaults(); err != nil {
			wantNoSecret(t, what+" in Config", err.Error())
		}
		if _, err := WithPassword([]string{u}, "", "hunter2"); err == nil {
			t.Errorf("WithPassword took %q", u)
		} else {
			wantNoSecret(t, what+" from WithPassword", err.Error())
		}
	}
}

func TestCredentialsHideThePassword(t *testing.T) {
	t.Parallel()
	c := Credentials{Username: "app", Password: "hunter2"}
	in := struct{ Login Credentials }{c}
	var logs strings.Builder
	timeless := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey { // it may hold any four digits
			return slog.Attr{}
		}
		return a
	}}
	slog.New(slog.NewJSONHandler(&logs, timeless)).Info("login", "as", c)
	slog.New(slog.NewTextHandler(&logs, timeless)).Info("login", "as", c, "pointer", &c)
	shown := []string{
		fmt.Sprint(c), fmt.Sprintf("%v", c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), c.String(), fmt.Sprintf("%q", c),
		fmt.Sprintf("%v", &c), fmt.Sprintf("%+v", &c), fmt.Sprintf("%#v", &c),
		fmt.Sprintf("%v", in), fmt.Sprintf("%+v", in), fmt.Sprintf("%#v", in),
		logs.String(),
	}
	for _, s := range shown {
		wantNoSecret(t, "a Credentials", s)
		if !strings.Contains(s, "app") {
			t.Errorf("%q does not show the user", s)
		}
	}
}

func TestAnAddressIsShownWithoutItsCredentials(t *testing.T) {
	t.Parallel()
	a, err := parseURL("amqp://user:hunter2@[::1]:7000/v")
	if err != nil {
		t.Fatal(err)
	}
	if a.String() != "[::1]:7000" {
		t.Errorf("String() = %q", a)
	}
	wantNoSecret(t, "an address", fmt.Sprintf("%v %+v", a, a))
}

func TestWithPasswordReplacesItAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	const pw = "p/?#@:% x"
	in := []string{"amqp://", "amqps://u:old@h:7000/a%2Fb?heartbeat=3", "amqp:///v", "amqp://h"}
	out, err := WithPassword(in, "", pw)
	if err != nil {
		t.Fatal(err)
	}
	for i := range in {
		before, err := parseURL(in[i])
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseURL(out[i])
		if err != nil {
			t.Errorf("%q became what cannot be read: %v", in[i], err)
			continue
		}
		if got.creds.Password != pw || got.creds.Username != before.creds.Username ||
			got.String() != before.String() || got.vhost != before.vhost || got.secure != before.secure || (got.heartbeat == nil) != (before.heartbeat == nil) {
			t.Errorf("%q became %q", in[i], out[i])
		}
	}
	out, err = WithPassword(in[1:2], "other", pw)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := parseURL(out[0]); err != nil || a.creds.Username != "other" {
		t.Errorf("%q, %v", out[0], err)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, u := range strayPasswords {
		f.Add(u)
	}
	f.Add("amqps://u:p@h:7000/a%2Fb?heartbeat=3&connection_timeout=1")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseURL(s)
		if (a == nil) == (err == nil) {
			t.Fatalf("%v, %v", a, err)
		}
		if err == nil && (a.host == "" || a.port == "" || a.vhost == "") {
			t.Errorf("%q: %+v", s, a)
		}
	})
}

func TestTheNameShownInTheManagementUIIsPlainText(t *testing.T) {
	t.Parallel()
	if _, err := json.Marshal(defaultName()); err != nil || len(strings.Fields(defaultName())) < 3 {
		t.Errorf("%q: want program, host and process id", defaultName())
	}
}
