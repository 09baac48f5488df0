package amqpserver

import (
	"slices"
	"strings"
	"time"

	"github.com/mqkit/mqkit/internal/engine"
	"github.com/mqkit/mqkit/internal/wire"
)

// Reply codes of what is found here.
const (
	accessRefused  = 403
	precondition   = 406
	frameError     = 501
	commandInvalid = 503
	channelError   = 504
	unexpected     = 505
	notAllowed     = 530
	notImplemented = 540
	internalError  = 541
)

// Start takes the protocol header that the client opened with. A wrong one is
// answered with one that would do, and is the end; see [wire.RefuseProtocol].
func (c *Conn) Start(protocolHeader [8]byte) {
	c.Heard()
	c.lock()
	defer c.unlock()
	if c.state != stateHeader {
		return
	}
	if better := wire.RefuseProtocol(protocolHeader); better != "" {
		c.w.raw(better)
		c.finish(ErrProtocolHeader)
		return
	}
	c.state = stateStarting
	c.w.connection(&wire.ConnectionStart{
		VersionMajor: 0, VersionMinor: 9,
		ServerProperties: c.cfg.serverProperties(),
		Mechanisms:       strings.Join(c.cfg.Mechanisms, " "),
		Locales:          "en_US",
	}, false)
}

func (c *Conn) startOk(m *wire.ConnectionStartOk) {
	if !slices.Contains(c.cfg.Mechanisms, m.Mechanism) {
		c.refuse(exceptionf(commandInvalid, "unknown authentication mechanism '%s'", m.Mechanism))
		return
	}
	c.client.Mechanism, c.client.Properties = m.Mechanism, m.ClientProperties
	l, err := login(m)
	if err != nil {
		c.refuse(err)
		return
	}
	user, err := c.cfg.Authenticate(l)
	if err != nil {
		c.refuseLogin(err)
		return
	}
	c.client.User = user
	c.state = stateTuning
	heartbeat := max(c.cfg.Tune.Heartbeat, 0) / time.Second
	c.w.connection(&wire.ConnectionTune{
		ChannelMax: c.cfg.Tune.ChannelMax, FrameMax: c.cfg.Tune.FrameMax, Heartbeat: uint16(heartbeat),
	}, false)
}

// refuseLogin tells the client only if it has announced that it wants to know.
func (c *Conn) refuseLogin(reason error) {
	err := &RefusedError{State: c.state.String(), Err: reason}
	if !capable(c.client.Properties, "authentication_failure_close") {
		c.refuse(reason)
		return
	}
	c.sendClose(exceptionf(accessRefused,
		"Login was refused using authentication mechanism %s. For details see the broker logfile.",
		c.client.Mechanism), 0)
	c.err = err
}

func (c *Conn) tuneOk(m *wire.ConnectionTuneOk) {
	e := checkTune("frame_max", m.FrameMax, wire.MinFrameMax, c.cfg.Tune.FrameMax)
	if e == nil {
		e = checkTune("channel_max", uint32(m.ChannelMax), 1, uint32(c.cfg.Tune.ChannelMax))
	}
	if e != nil {
		// In RabbitMQ's log, and nowhere else: the client is just dropped.
		c.refuse(e)
		return
	}
	c.channelMax = m.ChannelMax
	c.setFrameMax(m.FrameMax)
	c.interval = time.Duration(m.Heartbeat) * time.Second
	c.state = stateOpening
	c.startHeartbeat()
}

// checkTune compares what a client has chosen with what it was offered. 0 means
// no limit.
func checkTune(field string, chosen, least, offered uint32) *engine.Exception {
	detail := ""
	if field == "channel_max" && chosen == 0 {
		detail = " (no limit)"
	}
	switch {
	case chosen != 0 && chosen < least:
		return exceptionf(notAllowed, "negotiated %s = %d%s is lower than the minimum allowed value (%d)",
			field, chosen, detail, least)
	case offered != 0 && (chosen == 0 || chosen > offered):
		return exceptionf(notAllowed, "negotiated %s = %d%s is higher than the maximum allowed value (%d)",
			field, chosen, detail, offered)
	}
	return nil
}

func (c *Conn) open(m *wire.ConnectionOpen) {
	conn, e := c.cfg.Broker.Connect(engine.ConnInfo{
		Vhost: m.VirtualHost, User: c.client.User, Name: c.cfg.Name, Closed: c.force,
		NoCancelNotify: !capable(c.client.Properties, "consumer_cancel_notify"),
	})
	if e == nil {
		if err := c.cfg.Authorize(c.client.User, m.VirtualHost); err != nil {
			conn.Close()
			e = c.noAccess(m.VirtualHost)
		}
	}
	if e != nil {
		c.exception(e, m.ID())
		return
	}
	c.engine = conn
	c.client.Vhost = m.VirtualHost
	c.timers.handshake.Stop()
	c.state = stateRunning
	c.w.connection(&wire.ConnectionOpenOk{}, false)
	if c.block.wanted && !c.block.onPublish {
		c.startBlock()
	}
}

func (c *Conn) noAccess(vhost string) *engine.Exception {
	return exceptionf(notAllowed, "access to vhost '%s' refused for user '%s'", vhost, c.client.User)
}

func (c *Conn) updateSecret(m *wire.ConnectionUpdateSecret) {
	if err := c.cfg.UpdateSecret(c.client.User, m.NewSecret, m.Reason); err != nil {
		c.exception(exceptionf(notAllowed, "New secret was refused by one of the backends"), m.ID())
		return
	}
	if err := c.cfg.Authorize(c.client.User, c.client.Vhost); err != nil {
		c.exception(c.noAccess(c.client.Vhost), m.ID())
		return
	}
	c.w.connection(&wire.ConnectionUpdateSecretOk{}, false)
}
