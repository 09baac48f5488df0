// Command gen writes methods.go: a struct, a parser and a writer for each method
// in the table below. Run it with `go generate ./internal/wire`.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"os"
	"strings"
)

// spec is AMQP 0-9-1 as RabbitMQ speaks it, with its extensions (basic.nack,
// exchange.bind, connection.blocked, connection.update-secret, confirm). A line
// without indentation is a class and its number; an indented one is a method, its
// number, whether it carries content (*) and its fields in wire order.
//
// Types: o octet, h short, l long, q longlong, s shortstr, S longstr, F table,
// b bit; bits that stand side by side share octets, the first in the lowest bit.
const spec = `
connection 10
  start 10         VersionMajor:o VersionMinor:o ServerProperties:F Mechanisms:S Locales:S
  start-ok 11      ClientProperties:F Mechanism:s Response:S Locale:s
  secure 20        Challenge:S
  secure-ok 21     Response:S
  tune 30          ChannelMax:h FrameMax:l Heartbeat:h
  tune-ok 31       ChannelMax:h FrameMax:l Heartbeat:h
  open 40          VirtualHost:s Capabilities:s Insist:b
  open-ok 41       KnownHosts:s
  close 50         ReplyCode:h ReplyText:s ClassID:h MethodID:h
  close-ok 51
  blocked 60       Reason:s
  unblocked 61
  update-secret 70 NewSecret:S Reason:s
  update-secret-ok 71
channel 20
  open 10          OutOfBand:s
  open-ok 11       ChannelID:S
  flow 20          Active:b
  flow-ok 21       Active:b
  close 40         ReplyCode:h ReplyText:s ClassID:h MethodID:h
  close-ok 41
access 30
  request 10       Realm:s Exclusive:b Passive:b Active:b Write:b Read:b
  request-ok 11    Ticket:h
exchange 40
  declare 10       Ticket:h Exchange:s Type:s Passive:b Durable:b AutoDelete:b Internal:b NoWait:b Arguments:F
  declare-ok 11
  delete 20        Ticket:h Exchange:s IfUnused:b NoWait:b
  delete-ok 21
  bind 30          Ticket:h Destination:s Source:s RoutingKey:s NoWait:b Arguments:F
  bind-ok 31
  unbind 40        Ticket:h Destination:s Source:s RoutingKey:s NoWait:b Arguments:F
  unbind-ok 51
queue 50
  declare 10       Ticket:h Queue:s Passive:b Durable:b Exclusive:b AutoDelete:b NoWait:b Arguments:F
  declare-ok 11    Queue:s MessageCount:l ConsumerCount:l
  bind 20          Ticket:h Queue:s Exchange:s RoutingKey:s NoWait:b Arguments:F
  bind-ok 21
  purge 30         Ticket:h Queue:s NoWait:b
  purge-ok 31      MessageCount:l
  delete 40        Ticket:h Queue:s IfUnused:b IfEmpty:b NoWait:b
  delete-ok 41     MessageCount:l
  unbind 50        Ticket:h Queue:s Exchange:s RoutingKey:s Arguments:F
  unbind-ok 51
basic 60
  qos 10           PrefetchSize:l PrefetchCount:h Global:b
  qos-ok 11
  consume 20       Ticket:h Queue:s ConsumerTag:s NoLocal:b NoAck:b Exclusive:b NoWait:b Arguments:F
  consume-ok 21    ConsumerTag:s
  cancel 30        ConsumerTag:s NoWait:b
  cancel-ok 31     ConsumerTag:s
  publish 40 *     Ticket:h Exchange:s RoutingKey:s Mandatory:b Immediate:b
  return 50 *      ReplyCode:h ReplyText:s Exchange:s RoutingKey:s
  deliver 60 *     ConsumerTag:s DeliveryTag:q Redelivered:b Exchange:s RoutingKey:s
  get 70           Ticket:h Queue:s NoAck:b
  get-ok 71 *      DeliveryTag:q Redelivered:b Exchange:s RoutingKey:s MessageCount:l
  get-empty 72     ClusterID:s
  ack 80           DeliveryTag:q Multiple:b
  reject 90        DeliveryTag:q Requeue:b
  recover-async 100 Requeue:b
  recover 110      Requeue:b
  recover-ok 111
  nack 120         DeliveryTag:q Multiple:b Requeue:b
confirm 85
  select 10        NoWait:b
  select-ok 11
tx 90
  select 10
  select-ok 11
  commit 20
  commit-ok 21
  rollback 30
  rollback-ok 31
`

type kind struct{ goType, read, write string }

var kinds = map[string]kind{
	"o": {"uint8", "r.octet()", "append(b, m.%s)"},
	"h": {"uint16", "r.short()", "binary.BigEndian.AppendUint16(b, m.%s)"},
	"l": {"uint32", "r.long()", "binary.BigEndian.AppendUint32(b, m.%s)"},
	"q": {"uint64", "r.longlong()", "binary.BigEndian.AppendUint64(b, m.%s)"},
	"s": {"string", "r.shortString()", "appendShortString(b, m.%s)"},
	"S": {"string", "r.longString()", "appendLongString(b, m.%s)"},
	"F": {"Table", "r.table(1)", "AppendTable(b, m.%s)"},
	"b": {"bool", "", ""},
}

type field struct{ name, kind string }

type method struct {
	class, name, goName string
	id                  string // as the expression class<<16 | method
	content             bool
	fields              []field
}

func main() {
	var out bytes.Buffer
	write(&out, parse(spec))
	source, err := format.Source(out.Bytes())
	if err != nil {
		log.Fatalf("formatting what was generated: %v", err)
	}
	if err := os.WriteFile("methods.go", source, 0o644); err != nil {
		log.Fatal(err)
	}
}

func parse(spec string) []method {
	var methods []method
	var class, classID string
	for line := range strings.Lines(spec) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
			continue
		case line[0] != ' ':
			class, classID = words[0], words[1]
			continue
		}
		m := method{
			class:  class,
			name:   words[0],
			goName: camel(class) + camel(words[0]),
			id:     classID + "<<16 | " + words[1],
		}
		words = words[2:]
		if len(words) > 0 && words[0] == "*" {
			m.content, words = true, words[1:]
		}
		for _, word := range words {
			name, kind, _ := strings.Cut(word, ":")
			m.fields = append(m.fields, field{name, kind})
		}
		methods = append(methods, m)
	}
	return methods
}

// camel turns "update-secret-ok" into "UpdateSecretOk".
func camel(name string) string {
	var s strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		s.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return s.String()
}

func write(w *bytes.Buffer, methods []method) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

	p("// Code generated by internal/wire/gen; DO NOT EDIT.\n\npackage wire\n")
	p("import \"encoding/binary\"\n")
	p("// The methods, by class and number.\nconst (")
	for _, m := range methods {
		p("ID%s ID = %s", m.goName, m.id)
	}
	p(")\n")

	p("// String returns the method as the specification writes it, \"basic.publish\"; an\n" +
		"// unknown one as \"60.41\".\nfunc (id ID) String() string {\nswitch id {")
	for _, m := range methods {
		p("case ID%s:\nreturn %q", m.goName, m.class+"."+m.name)
	}
	p("}\nreturn id.numbers()\n}\n")

	p("// HasContent tells whether a header frame and the body follow the method.\n" +
		"func (id ID) HasContent() bool {\nswitch id {")
	var content []string
	for _, m := range methods {
		if m.content {
			content = append(content, "ID"+m.goName)
		}
	}
	p("case %s:\nreturn true\n}\nreturn false\n}\n", strings.Join(content, ", "))

	p("// New returns an empty method to be filled in, nil for an unknown id.\n" +
		"func New(id ID) Method {\nswitch id {")
	for _, m := range methods {
		p("case ID%s:\nreturn new(%s)", m.goName, m.goName)
	}
	p("}\nreturn nil\n}")

	// Switches instead of methods of the interface: what is called that way is known
	// to the compiler, which then leaves decoders and methods on the stack.
	p("\nfunc parseFields(m Method, r *decoder) {\nswitch m := m.(type) {")
	for _, m := range methods {
		if len(m.fields) > 0 {
			p("case *%s:\nm.parse(r)", m.goName)
		}
	}
	p("}\n}\n\nfunc appendFields(b []byte, m Method) []byte {\nswitch m := m.(type) {")
	for _, m := range methods {
		if len(m.fields) > 0 {
			p("case *%s:\nreturn m.append(appendID(b, ID%s))", m.goName, m.goName)
		} else {
			p("case *%s:\nreturn appendID(b, ID%s)", m.goName, m.goName)
		}
	}
	p("}\npanic(unwritable(\"a method that is nil\"))\n}")

	for _, m := range methods {
		writeMethod(p, m)
	}
}

func writeMethod(p func(string, ...any), m method) {
	p("\n// %s is %s.%s.\ntype %s struct {", m.goName, m.class, m.name, m.goName)
	for _, f := range m.fields {
		p("%s %s", f.name, kinds[f.kind].goType)
	}
	p("}\n\n// ID returns ID%s.\nfunc (*%s) ID() ID { return ID%s }\n", m.goName, m.goName, m.goName)
	p("func (*%s) method() {}\n", m.goName)
	if len(m.fields) == 0 {
		return
	}
	p("func (m *%s) parse(r *decoder) {", m.goName)
	bits := 0
	for _, f := range m.fields {
		if f.kind != "b" {
			bits = 0
			read := kinds[f.kind].read
			if m.content && f.kind == "s" {
				read = "r.anyShortString()" // RabbitMQ checks no utf-8 on the hot path
			}
			p("m.%s = %s", f.name, read)
			continue
		}
		if bits == 0 {
			p("bits := r.octet()")
		}
		p("m.%s = bits&(1<<%d) != 0", f.name, bits)
		bits++
	}
	p("}\n\nfunc (m *%s) append(b []byte) []byte {", m.goName)
	for i, f := range m.fields {
		if f.kind != "b" {
			p("b = "+kinds[f.kind].write, f.name)
			continue
		}
		if i > 0 && m.fields[i-1].kind == "b" {
			continue
		}
		var names []string
		for j := i; j < len(m.fields) && m.fields[j].kind == "b"; j++ {
			names = append(names, "m."+m.fields[j].name)
		}
		p("b = appendBits(b, %s)", strings.Join(names, ", "))
	}
	p("return b\n}")
}
