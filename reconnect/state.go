package reconnect

import (
	"fmt"
	"time"
)

// Role says what a connection is for. Publishing and consuming have one each,
// because an alarm of the broker stops reading from a publishing connection,
// and acks must still go out.
type Role uint8

// The roles.
const (
	Publishing Role = iota
	Consuming
	roles // how many there are
)

func (r Role) String() string {
	switch r {
	case Publishing:
		return "publishing"
	case Consuming:
		return "consuming"
	default:
		return fmt.Sprintf("role(%d)", uint8(r))
	}
}

// State is where a connection is in its life. docs/state-machine.md has the
// table of transitions.
type State uint8

// The states.
const (
	Idle       State = iota // its role was not used yet
	Connecting              // dialling, or declaring the topology
	Connected               // ready
	Blocked                 // connected, and the broker takes no publishes (an alarm)
	Waiting                 // lost, or not reached: waiting for the next attempt
	Failed                  // given up for good: a fatal error before the first success, or with StopOnFatal
	Closed                  // after Close or CloseNow
)

func (s State) String() string {
	switch s {
	case Idle:
		return "idle"
	case Connecting:
		return "connecting"
	case Connected:
		return "connected"
	case Blocked:
		return "blocked"
	case Waiting:
		return "waiting"
	case Failed:
		return "failed"
	case Closed:
		return "closed"
	default:
		return fmt.Sprintf("state(%d)", uint8(s))
	}
}

// transitions lists what may follow each state; docs/state-machine.md says
// why, and a test compares the two.
var transitions = map[State][]State{
	Idle:       {Connecting, Closed},
	Connecting: {Connected, Waiting, Failed, Closed},
	Connected:  {Blocked, Waiting, Failed, Closed},
	Blocked:    {Connected, Waiting, Failed, Closed},
	Waiting:    {Connecting, Closed},
	Failed:     {Closed},
	Closed:     {},
}

// Status is a connection's state with its history.
type Status struct {
	State    State
	Since    time.Time // when it entered State
	Cause    error     // why it is not connected, or is blocked; nil when all is well
	Address  string    // host:port it is connected to, else empty
	Attempts int       // rounds of dialling since it was last connected
	Sessions int       // connections made so far

	// TopologyFault is what of Config.Topology could not be declared on the
	// present connection, nil if all of it is there.
	TopologyFault error
}

// StateChange is one step of one connection.
type StateChange struct {
	Role Role
	From State
	To   State
	At   time.Time

	// Cause is why: the error that ended or prevented the connection, the
	// broker's reason for blocking. Nil when all is well.
	Cause error

	// Address is host:port of the connection, if there is or was one.
	Address string

	// Wait is how long the next attempt is away when To is Waiting.
	Wait time.Duration
}

func (c StateChange) String() string {
	s := fmt.Sprintf("%s connection %s -> %s", c.Role, c.From, c.To)
	if c.Address != "" {
		s += " " + c.Address
	}
	if c.Cause != nil {
		s += ": " + c.Cause.Error()
	}
	return s
}
