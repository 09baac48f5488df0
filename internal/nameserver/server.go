// Package nameserver is a name server on the loopback interface, for tests of what
// happens when a name begins to mean another address. It knows A records and
// answers nothing else; it is asked by whoever uses its Resolver.
package nameserver

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// Server is a name server. All methods may be called from any goroutine.
type Server struct {
	conn  net.PacketConn
	ended chan struct{}

	mu      sync.Mutex // guards what follows
	records map[string]netip.Addr
	asked   map[string]int
}

// Start starts a server on a free port of 127.0.0.1. It knows no names.
func Start() (*Server, error) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{conn: conn, ended: make(chan struct{}), records: map[string]netip.Addr{}, asked: map[string]int{}}
	go s.serve()
	return s, nil
}

// Set has name mean an IPv4 address from now on; the zero address makes it unknown.
func (s *Server) Set(name string, to netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[name] = to
}

// Asked is how often the address of name was asked for.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name]
}

// Resolver asks this server and no other.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", s.conn.LocalAddr().String())
	}}
}

// Close ends the server and waits for its goroutine.
func (s *Server) Close() {
	_ = s.conn.Close()
	<-s.ended
}

// longestQuery is that of DNS over UDP without extensions, and more.
const longestQuery = 4096

func (s *Server) serve() {
	defer close(s.ended)
	buf := make([]byte, longestQuery)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if answer := s.answer(buf[:n]); answer != nil {
			_, _ = s.conn.WriteTo(answer, from) // who asks asks again
		}
	}
}

// Fields of RFC 1035.
const (
	headerSize = 12
	typeA      = 1
	classIN    = 1

	response      = 0x8400 // an answer, authoritative
	nameError     = 3
	pointerToName = 0xC000 | headerSize // the question's, in the answer
)

// answer is the response to a query of one question, nil if it is none.
func (s *Server) answer(query []byte) []byte {
	name, end := question(query)
	if end == 0 {
		return nil
	}
	kind := binary.BigEndian.Uint16(query[end-4:])
	s.mu.Lock()
	to := s.records[name]
	if kind == typeA {
		s.asked[name]++
	}
	s.mu.Unlock()

	flags, answers := uint16(response), uint16(0)
	switch {
	case !to.Is4():
		flags |= nameError
	case kind == typeA:
		answers = 1
	}
	out := append([]byte(nil), query[:2]...) // its number
	for _, field := range []uint16{flags, 1, answers, 0, 0} {
		out = binary.BigEndian.AppendUint16(out, field)
	}
	out = append(out, query[headerSize:end]...)
	if answers == 1 {
		for _, field := range []uint16{pointerToName, typeA, classIN, 0, 0, 4} { // may be kept for no time
			out = binary.BigEndian.AppendUint16(out, field)
		}
		a := to.As4()
		out = append(out, a[:]...)
	}
	return out
}

// question reads the name that is asked for, in lower case and without its final dot,
// and where the question ends; 0 if it cannot be read.
func question(query []byte) (name string, end int) {
	if len(query) < headerSize || binary.BigEndian.Uint16(query[4:]) != 1 {
		return "", 0
	}
	var labels []string
	for at := headerSize; at < len(query); {
		size := int(query[at])
		at++
		if size == 0 {
			if at+4 > len(query) {
				return "", 0
			}
			return strings.ToLower(strings.Join(labels, ".")), at + 4
		}
		if size > 63 || at+size > len(query) {
			return "", 0
		}
		labels = append(labels, string(query[at:at+size]))
		at += size
	}
	return "", 0
}
