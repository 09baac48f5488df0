package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
)

// Host ports are chosen here and not by the engine, because they have to be the
// same after a kill and a start. They lie below the ephemeral ranges of Linux and
// macOS: a client that dials a dead port inside that range can be given the very
// same port as its own, connects to itself, and keeps the broker from coming back.
const (
	firstPort = 20000
	lastPort  = 29999
)

var (
	portsMu sync.Mutex
	// ports holds those given to a node of this process, guarded by portsMu. A
	// stopped node does not listen and still owns its port.
	ports = map[int]bool{}
)

// takePort returns a port that is free at the moment and is given to nobody else
// in this process until givePort. Another process may still be faster, so that
// launching tries again on a conflict.
func takePort(bind netip.Addr) (int, error) {
	portsMu.Lock()
	defer portsMu.Unlock()
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if ports[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(bind.String(), strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("release port %d: %w", port, err)
		}
		ports[port] = true
		return port, nil
	}
	return 0, errors.New("found no free port in a hundred tries")
}

func givePort(port int) {
	portsMu.Lock()
	defer portsMu.Unlock()
	delete(ports, port)
}
