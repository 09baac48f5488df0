package amqpserver

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/mqkit/mqkit/internal/wire"
)

// The mechanisms that a login is taken apart for.
const (
	mechanismPlain     = "PLAIN"
	mechanismAMQPlain  = "AMQPLAIN"
	mechanismAnonymous = "ANONYMOUS"
)

// anonymous is user and password of RabbitMQ's anonymous_login_user: whoever gives
// no name logs in as that one, whatever the response, if the user is there.
const anonymous = "guest"

var (
	errPlain    = errors.New("the response is not NUL user NUL password")
	errAMQPlain = errors.New("the response is missing the LOGIN or PASSWORD field")
)

// login takes user and password out of a response, where the mechanism has them.
// An error is a client's that does not speak its mechanism: it gets no answer.
func login(m *wire.ConnectionStartOk) (Login, error) {
	l := Login{Mechanism: m.Mechanism, Response: m.Response, Properties: m.ClientProperties}
	switch m.Mechanism {
	case mechanismPlain:
		user, ok := strings.CutPrefix(m.Response, "\x00")
		if !ok {
			return l, errPlain
		}
		if l.User, l.Password, ok = strings.Cut(user, "\x00"); !ok || strings.Contains(l.Password, "\x00") {
			return l, errPlain
		}
	case mechanismAMQPlain:
		// A table without the length that stands before one everywhere else.
		raw := binary.BigEndian.AppendUint32(nil, uint32(len(m.Response)))
		table, err := wire.ParseTable(append(raw, m.Response...))
		if err != nil {
			return l, err
		}
		var user, password bool
		l.User, user = text(table, "LOGIN")
		l.Password, password = text(table, "PASSWORD")
		if !user || !password {
			return l, errAMQPlain
		}
	case mechanismAnonymous:
		l.User, l.Password = anonymous, anonymous
	}
	return l, nil
}

// text returns a field that is a long string.
func text(t wire.Table, key string) (string, bool) {
	value, _ := t.Get(key)
	s, ok := value.(string)
	return s, ok
}

// capable tells whether client properties announce a capability.
func capable(properties wire.Table, name string) bool {
	value, _ := properties.Get("capabilities")
	capabilities, _ := value.(wire.Table)
	announced, _ := capabilities.Get(name)
	is, _ := announced.(bool)
	return is
}
